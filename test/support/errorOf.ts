/** Root mean square of the difference over that of `want`; NaN where anything is. */
export function errorOf(row: Float32Array, want: Float32Array): number {
  let [square, error] = [0, 0];
  want.forEach((value, i) => {
    square += value ** 2;
    error += ((row[i] ?? Number.NaN) - value) ** 2;
  });
  return Math.sqrt(error / square);
}
