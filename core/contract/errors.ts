/** Error codes of plugins. */
export const pluginErrorCodes = [
  'not_found', // the container, file or folder does not exist
  'unavailable', // the engine, server or share does not answer, or is not mounted
  'no_space', // the target or file system is full
  'read_only', // the target or file system is read-only
  'denied', // wrong credentials or missing right
  'untrusted', // the server's key has changed since the first contact
  'invalid', // a path, name or option cannot be used
  'exists', // the name is already taken
  'conflict', // another container or operation prevents it
  'in_use', // something else uses it
  'needs_consent', // the container would get rights that nobody has granted
  'record_in_use', // another appliance or job writes to the record
  'record_owned', // the record belongs to another appliance or job
  'secrets_lost', // the stored password cannot be decrypted and must be set again
  'damaged', // stored bytes differ from those that were written
  'stalled', // no byte moved for too long
  'aborted', // the signal was aborted
  'unsupported', // the engine or target cannot do this
  'io', // any other failure of the operating system
  'failed', // a child process or a server reported an error of its own
] as const;

export type PluginErrorCode = (typeof pluginErrorCodes)[number];

/** An error with a code that never changes, because clients and tests depend on it. `message` names the thing and what to change. */
export class CodedError<Code extends string = string> extends Error {
  override readonly name: string = 'CodedError';
  constructor(
    readonly code: Code,
    message: string,
    options: { readonly retryable?: boolean; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.retryable = options.retryable ?? false;
  }
  /** Whether the same call may succeed later without any change. */
  readonly retryable: boolean;
}

/** The error that a plugin throws: it has the codes that a plugin may give. */
export class PluginError extends CodedError<PluginErrorCode> {
  override readonly name = 'PluginError';
}
