// Keys and passwords inside a text. A hit refuses the whole file: what is hidden around a secret cannot be known.

/** Forms that their issuers made recognisable. */
const KEYS = [
  /-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----/,
  /PuTTY-User-Key-File-\d:/,
  /\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b/,
  /\bAIza[\w-]{35}/,
  /\bya29\.[\w-]{20,}/,
  /\bgh[pousr]_[A-Za-z0-9]{36}/,
  /\bgithub_pat_\w{22,}/,
  /\bglpat-[\w-]{20}/,
  /\bxox[abeoprs]-[\w-]{10,}/,
  /\b[rs]k_live_[A-Za-z0-9]{16,}/,
  /\bsk-(?:ant|proj|svcacct|or)-[\w-]{20,}/,
  /\bsk-[A-Za-z0-9]{40,}/,
  /\bnpm_[A-Za-z0-9]{36}\b/,
  /\bpypi-AgEI[\w-]{50,}/,
  /\bhf_[A-Za-z]{34}\b/,
  /\bSG\.[\w-]{22}\.[\w-]{43}\b/,
  /\bdop_v1_[a-f0-9]{64}\b/,
  /\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}/,
  /\b(?:Account|SharedAccess)Key=[A-Za-z0-9+/]{40,}=*/i,
  /\bhooks\.slack\.com\/services\/T\w{6,}\/B\w{6,}\/\w{20,}/,
] as const;

const SECRET_WORD =
  "(?:token|secret|passw(?:or)?d|passphrase|api[_-]?key|access[_-]?key|private[_-]?key|auth[_-]?key|credential)[\\w-]{0,24}";

/** `name = "value"`, `"name": "value"`, `name => 'value'` and the like. */
const QUOTED = new RegExp(
  `${SECRET_WORD}["'\`]?\\]?\\s*(?::\\s*[\\w.]+\\s*)?(?:=>|:=|[=:])\\s*[bru]?["'\`]([^"'\`\\s]{8,512})["'\`]`,
  "gi",
);
/** `NAME=value` and `name: value` on a line of its own, as in shell, YAML and properties files. */
const BARE = new RegExp(
  `^[ \\t]*(?:export[ \\t]+|-[ \\t]+)?[\\w.-]*${SECRET_WORD}[ \\t]*(?:=|:[ \\t])[ \\t]*([^\\s"'\`#;,(){}<>]{16,512})[ \\t]*$`,
  "gim",
);
const IN_ADDRESS = /\b[a-z][a-z0-9+.-]{1,20}:\/\/[^\s:/@"'`]{1,64}:([^\s:/@"'`]{8,128})@[\w.-]/gi;

/** Values that stand where a secret will stand. */
const PLACEHOLDER =
  /\$\{|\{\{|\$\(|^[<$%]|example|placeholder|change[_-]?me|your[_-]|dummy|sample|redacted|x{4,}|\*{3,}|\.{3}|:\/\//i;

/** Bits for each character; English words have about 3, random letters and digits more than 3.5. */
const RANDOM_BITS = 3.5;
/** Shorter values are called passwords when their characters are as mixed as people are told to mix them. */
const SHORT = 16;

/** What kind of secret stands in `text`; undefined when none is recognised. Linear in the length of `text`. */
export function secretIn(text: string): "key" | "password" | undefined {
  if (KEYS.some((pattern) => pattern.test(text))) return "key";
  for (const pattern of [QUOTED, BARE, IN_ADDRESS]) {
    for (const [, value = ""] of text.matchAll(pattern)) {
      if (isLikeSecret(value)) return "password";
    }
  }
  return undefined;
}

function isLikeSecret(value: string): boolean {
  if (PLACEHOLDER.test(value) || !/[A-Za-z]/.test(value)) return false;
  const kinds = [/[a-z]/, /[A-Z]/, /\d/, /[^\w.-]/].filter((kind) => kind.test(value)).length;
  if (value.length < SHORT) return kinds >= 3;
  return (
    /\d/.test(value) && bitsPerCharacter(value) >= (/^[a-f\d-]+$/i.test(value) ? 3 : RANDOM_BITS)
  );
}

/** Shannon entropy of the characters, in bits. */
function bitsPerCharacter(value: string): number {
  const counts = new Map<string, number>();
  for (const char of value) counts.set(char, (counts.get(char) ?? 0) + 1);
  let bits = 0;
  for (const count of counts.values())
    bits -= (count / value.length) * Math.log2(count / value.length);
  return bits;
}
