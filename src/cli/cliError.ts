/** A mistake in how the command was called: exit code 2. Everything else that fails is exit code 1. */
export class UsageError extends Error {}
