// Progress for a person at a terminal: a line per step with its time.

/** Runs `work` and prints how long it took; `work` may call its argument to name what it is doing. */
export async function step(title, work) {
  const startMs = Date.now();
  const note = (text) => process.stdout.write(`  ${title}: ${text} ...\n`);
  process.stdout.write(`> ${title}\n`);
  const result = await work(note);
  process.stdout.write(`< ${title} (${((Date.now() - startMs) / 1000).toFixed(1)} s)\n`);
  return result;
}
