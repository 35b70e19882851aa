/** What an update may fail of. The API tells the code; its table has the status of each. */
export const updateErrorCodes = [
  'not_found', // no bundle was uploaded
  'busy', // jobs run, or another update step does
  'no_space', // the bundle does not fit
  'stalled', // the client sends nothing any more
  'aborted', // the client has gone, or the service ends
  'untrusted_bundle', // its signature is of nobody that this appliance trusts
  'damaged_bundle', // some bit is not what was signed, or it is no bundle at all
  'incompatible_bundle', // made for another board
  'downgrade', // older than what runs
  'install_failed', // RAUC gave up
  'unavailable', // RAUC does not answer
  'failed', // the machine would not reboot
] as const;

export type UpdateErrorCode = (typeof updateErrorCodes)[number];

export class UpdateError extends Error {
  override readonly name = 'UpdateError';
  constructor(
    readonly code: UpdateErrorCode,
    message: string,
    options: { readonly cause?: unknown } = {},
  ) {
    super(message, options);
  }
}

export const aborted = () => new UpdateError('aborted', 'it was stopped before its end');
