/** Source text to measure with: written for this, so that benchmarks need no file of the user. */
export const SAMPLE_CODE = `import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";

export interface LedgerEntry {
  id: string;
  account: string;
  amountCents: number;
  postedAt: Date;
  tags: string[];
}

export class LedgerError extends Error {
  constructor(message: string, readonly line?: number) {
    super(line === undefined ? message : \`line \${line}: \${message}\`);
    this.name = "LedgerError";
  }
}

/** Parses one line of the form "id;account;amount;date;tag,tag". */
export function parseEntry(text: string, line: number): LedgerEntry {
  const fields = text.split(";");
  if (fields.length < 4) {
    throw new LedgerError(\`expected four fields, found \${fields.length}\`, line);
  }
  const [id = "", account = "", amount = "", date = "", tags = ""] = fields;
  const amountCents = Math.round(Number(amount) * 100);
  if (!Number.isFinite(amountCents)) {
    throw new LedgerError(\`expected an amount, found \${amount}\`, line);
  }
  const postedAt = new Date(date);
  if (Number.isNaN(postedAt.getTime())) {
    throw new LedgerError(\`expected a date, found \${date}\`, line);
  }
  return { id, account, amountCents, postedAt, tags: tags.split(",").filter(Boolean) };
}

export class Ledger {
  private readonly entries = new Map<string, LedgerEntry>();
  private readonly balances = new Map<string, number>();

  static async load(file: string): Promise<Ledger> {
    const ledger = new Ledger();
    const text = await readFile(path.resolve(file), "utf8");
    for (const [index, line] of text.split("\\n").entries()) {
      if (line.trim() === "" || line.startsWith("#")) continue;
      ledger.add(parseEntry(line, index + 1));
    }
    return ledger;
  }

  get size(): number {
    return this.entries.size;
  }

  add(entry: LedgerEntry): void {
    if (this.entries.has(entry.id)) {
      throw new LedgerError(\`entry \${entry.id} is already there\`);
    }
    this.entries.set(entry.id, entry);
    const balance = this.balances.get(entry.account) ?? 0;
    this.balances.set(entry.account, balance + entry.amountCents);
  }

  remove(id: string): boolean {
    const entry = this.entries.get(id);
    if (entry === undefined) return false;
    this.entries.delete(id);
    const balance = this.balances.get(entry.account) ?? 0;
    this.balances.set(entry.account, balance - entry.amountCents);
    return true;
  }

  balanceOf(account: string): number {
    return this.balances.get(account) ?? 0;
  }

  /** Entries between two dates, oldest first. */
  between(from: Date, to: Date): LedgerEntry[] {
    const found: LedgerEntry[] = [];
    for (const entry of this.entries.values()) {
      if (entry.postedAt >= from && entry.postedAt < to) found.push(entry);
    }
    return found.sort((a, b) => a.postedAt.getTime() - b.postedAt.getTime());
  }

  totalsByTag(): Map<string, number> {
    const totals = new Map<string, number>();
    for (const { tags, amountCents } of this.entries.values()) {
      for (const tag of tags) {
        totals.set(tag, (totals.get(tag) ?? 0) + amountCents);
      }
    }
    return totals;
  }

  async save(file: string): Promise<void> {
    const lines = [...this.entries.values()].map((entry) => {
      const amount = (entry.amountCents / 100).toFixed(2);
      const date = entry.postedAt.toISOString();
      return [entry.id, entry.account, amount, date, entry.tags.join(",")].join(";");
    });
    await writeFile(path.resolve(file), lines.join("\\n") + "\\n");
  }
}

export function formatCents(cents: number, currency = "EUR"): string {
  const sign = cents < 0 ? "-" : "";
  const whole = Math.floor(Math.abs(cents) / 100);
  const rest = String(Math.abs(cents) % 100).padStart(2, "0");
  return \`\${sign}\${whole}.\${rest} \${currency}\`;
}
`;
