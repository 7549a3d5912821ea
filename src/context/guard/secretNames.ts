// File names that hold keys and passwords, whatever git says about them.

const NAMES = [
  /^\.env(?:[.-].*)?$/,
  /^\.envrc$/,
  /\.env$/,
  /^[._](?:npmrc|yarnrc|yarnrc\.yml|netrc|pypirc|pgpass|htpasswd|dockercfg|s3cfg|boto)$/,
  /^\.(?:git-credentials|vault-token|my\.cnf|bash_history|zsh_history|node_repl_history)$/,
  /^(?:npmrc|netrc|htpasswd|kubeconfig|wp-config\.php|local\.settings\.json|auth\.json)$/,
  /^id_(?:rsa|dsa|ecdsa|ed25519)/,
  /\.(?:pem|key|p8|p12|pfx|pkcs12|jks|keystore|ppk|asc|gpg|pgp|kdbx?|ovpn|kubeconfig)$/,
  /\.(?:tfstate|tfstate\.backup|tfvars|tfvars\.json)$/,
  /^(?:aws|gcp|gcloud|azure|application_default)?[._-]?credentials?(?:\..*)?$/,
  /^(?:client[._-])?secrets?(?:\..*)?$/,
  /^service[._-]?account.*\.json$/,
] as const;

/** Folders whose whole content is private to the user. */
const FOLDERS = new Set([".git", ".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker"]);

/** Whether the file or a folder on the way to it is named as secrets are. `path` has forward slashes. */
export function hasSecretName(path: string): boolean {
  const parts = path.toLowerCase().split("/");
  const name = parts.pop() ?? "";
  return parts.some((part) => FOLDERS.has(part)) || NAMES.some((pattern) => pattern.test(name));
}
