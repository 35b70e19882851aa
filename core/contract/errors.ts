/** What a plugin may report. The code is stable: clients and tests depend on it. */
export const pluginErrorCodes = [
  'not_found', // the container, file or folder is not there
  'unavailable', // the engine, server or share does not answer, or is not mounted
  'no_space', // the place is full
  'read_only', // the place may not be written
  'denied', // wrong credentials or missing right
  'untrusted', // the server is not the one that was there before: its key has changed
  'invalid', // a path, name or option that cannot be used
  'exists', // something is already there
  'conflict', // another container or operation stands in the way
  'in_use', // the thing is used by something else
  'needs_consent', // it would be given rights that nobody has granted
  'record_in_use', // another appliance, or another job, writes to the record
  'record_owned', // the record is another appliance's, or another job's
  'secrets_lost', // what is stored of the place cannot be opened any more: its password must be set again
  'damaged', // stored bytes are not what was written
  'stalled', // no byte moved for too long
  'aborted', // the signal was aborted
  'unsupported', // the engine or target cannot do this
  'io', // any other failure of the operating system
  'failed', // a child or a server reported an error of its own
] as const;

export type PluginErrorCode = (typeof pluginErrorCodes)[number];

/** The one error class that crosses the plugin boundary. `message` names the thing and what to change. */
export class PluginError extends Error {
  override readonly name = 'PluginError';
  constructor(
    readonly code: PluginErrorCode,
    message: string,
    options: { readonly retryable?: boolean; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.retryable = options.retryable ?? false;
  }
  /** Whether the same call may succeed later without anybody changing anything. */
  readonly retryable: boolean;
}
