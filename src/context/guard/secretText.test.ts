import { expect, test } from "vitest";
import { secretIn } from "./secretText.ts";

// Put together at run time, so that no scanner takes this file for a leak.
const random = ["q7Rt2", "LxV9b", "N4mZc", "K8wPf", "Y3sHd", "J6gTe", "A1uQo", "B5iXr"].join("");

test.each([
  ["private key", "-----BEGIN OPENSSH PRIVATE" + " KEY-----\nabc"],
  ["PGP key", "-----BEGIN PGP PRIVATE" + " KEY BLOCK-----"],
  ["AWS key", `id = AKIA${"J4QZ7XKLMNOPQR2T"}`],
  ["Google key", `"AIza${random.slice(0, 35)}"`],
  ["GitHub token", `ghp_${random.slice(0, 36)}`],
  ["GitLab token", `glpat-${random.slice(0, 20)}`],
  ["Slack token", `xoxb-${"123456789012"}-abcdef`],
  ["Stripe key", `sk_live_${random.slice(0, 24)}`],
  ["npm token", `npm_${random.slice(0, 36)}`],
  ["web token", `eyJ${random.slice(0, 15)}.eyJ${random.slice(0, 20)}.${random.slice(0, 30)}`],
])("finds a %s", (_, text) => {
  expect(secretIn(text)).toBe("key");
});

test.each([
  ["quoted", `const apiToken = "${random.slice(0, 24)}";`],
  ["JSON", `{"client_secret": "${random.slice(0, 24)}"}`],
  ["index", `config["password"] = 'Tr0ub4dor&3x'`],
  ["environment", `export DB_PASSWORD=${random.slice(0, 20)}`],
  ["YAML", `  auth_token: ${random.slice(0, 20)}`],
  ["hexadecimal", `SECRET_KEY = "9f86d081884c7d659a2feaa0c55ad015"`],
  ["type annotation", `let secret: string = "${random.slice(0, 20)}";`],
  ["address", "postgres://admin:S3cr3t-Pa55word@db.internal/x"],
])("finds a password in an assignment: %s", (_, text) => {
  expect(secretIn(text)).toBe("password");
});

test.each([
  'const token = "identifier";',
  "const token = nextToken(lexer);",
  'password = "{{ vault.db_password1 }}"',
  'password = "{{vault.dbPassword1}}"',
  'apiKey: "your-api-key-goes-here-123"',
  "TOKEN=<paste your token 123 here>",
  'secret_name = "projects/app/secrets/database"',
  'if (password === "") throw new Error("password required");',
  '"passwordPlaceholder": "Enter your password please"',
  "-----BEGIN PUBLIC KEY-----",
  'url = "http://user:password@example.com"',
  "token: string;",
])("leaves %s alone", (text) => {
  expect(secretIn(text)).toBeUndefined();
});

test("searches a megabyte without a line end in less than a second", () => {
  const started = performance.now();
  for (const text of ["token_".repeat(170_000), "a://b:".repeat(170_000), "eyJabc".repeat(170_000)])
    expect(secretIn(text)).toBeUndefined();
  expect(performance.now() - started).toBeLessThan(1000);
});
