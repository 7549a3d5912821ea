import type { ImportForm } from "./importStatements.ts";

const patterns: Partial<Record<ImportForm, RegExp>> = {
  java: /^\s*package\s+([\w.]+)\s*;/m,
  csharp: /^\s*namespace\s+([\w.]+)/m,
  php: /^\s*namespace\s+([\w\\]+)/m,
};

/** The namespace or package that a text says it belongs to; empty when it names none. */
export function namespaceOf(text: string, form: ImportForm | undefined): string {
  const pattern = form && patterns[form];
  return pattern?.exec(text)?.[1] ?? "";
}
