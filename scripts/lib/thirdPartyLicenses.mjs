// The bundles contain other people's code, whose licences ask that their text goes along with it.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { inRoot } from "./paths.mjs";

const ALLOWED = new Set([
  "MIT",
  "Apache-2.0",
  "BSD-2-Clause",
  "BSD-3-Clause",
  "ISC",
  "0BSD",
  "BlueOak-1.0.0",
]);

/**
 * Writes the licences of all production dependencies, direct and indirect, to `target`.
 * Throws when one has a licence outside the allowed set.
 */
export async function writeThirdPartyLicenses(target) {
  const lock = JSON.parse(readFileSync(inRoot("package-lock.json"), "utf8"));
  const folders = Object.entries(lock.packages)
    .filter(([folder, entry]) => folder !== "" && entry.dev !== true && entry.devOptional !== true)
    .filter(([, entry]) => entry.optional !== true && entry.peer !== true)
    .map(([folder]) => folder)
    .sort();
  writeFileSync(target, `${folders.map(licenseSection).join(`\n${"-".repeat(72)}\n\n`)}`);
}

function licenseSection(folder) {
  const { name, version, license } = JSON.parse(
    readFileSync(inRoot(folder, "package.json"), "utf8"),
  );
  if (!ALLOWED.has(license)) {
    throw new Error(
      `${name} ${version} has the licence ${license}; allowed: ${[...ALLOWED].join(", ")}`,
    );
  }
  const file = readdirSync(inRoot(folder)).find((entry) => /^licen[cs]e/i.test(entry));
  const text =
    file === undefined
      ? `The package names this licence and carries no text of it.`
      : readFileSync(inRoot(path.join(folder, file)), "utf8").trim();
  return `${name} ${version} (${license})\n\n${text}\n`;
}
