/** The one table of errors: code → status, whether the same request may succeed later. Everything thrown ends here. */
import { STATUS_CODES } from 'node:http';
import { PluginError } from '../contract/index.js';
import { type Fault, ValidationError } from '../schemas.js';

const table = {
  bad_request: [400, false],
  validation: [400, false],
  past: [400, false],
  unauthorized: [401, false],
  forbidden: [403, false],
  not_found: [404, false],
  method_not_allowed: [405, false],
  conflict: [409, false],
  busy: [409, true],
  in_use: [409, false],
  record_in_use: [409, true],
  record_owned: [409, false],
  precondition_failed: [412, false],
  too_large: [413, false],
  too_many: [429, true],
  internal: [500, false],
  unavailable: [503, true],
  // What was acknowledged is not all there any more; somebody has to say what is to become of it:
  state_damaged: [503, false],
  // What a plugin reported:
  no_space: [507, true],
  read_only: [409, false],
  denied: [502, false],
  untrusted: [502, false],
  invalid: [400, false],
  exists: [409, false],
  needs_consent: [409, false],
  secrets_lost: [409, false],
  damaged: [502, false],
  stalled: [504, true],
  aborted: [503, true],
  unsupported: [400, false],
  io: [502, true],
  failed: [502, false],
  // What an update reported, beside not_found, busy, no_space, stalled, aborted and unavailable:
  untrusted_bundle: [422, false],
  damaged_bundle: [422, false],
  incompatible_bundle: [422, false],
  downgrade: [409, false],
  install_failed: [502, false],
} as const satisfies Record<string, readonly [status: number, retryable: boolean]>;

export type ErrorCode = keyof typeof table;

export const errorCodes: readonly string[] = Object.keys(table);

export class ApiError extends Error {
  override readonly name = 'ApiError';
  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly more: {
      readonly errors?: readonly Fault[];
      readonly headers?: Readonly<Record<string, string>>;
      readonly retryable?: boolean;
    } = {},
  ) {
    super(message);
  }
  get status(): number {
    return table[this.code][0];
  }
  get retryable(): boolean {
    return this.more.retryable ?? table[this.code][1];
  }
}

/** One thing of the body is wrong. */
export function invalidField(pointer: string, reason: string): ValidationError {
  return new ValidationError([{ pointer, reason }]);
}

const isCode = (code: unknown): code is ErrorCode => typeof code === 'string' && Object.hasOwn(table, code);

// They are known by their names, so that the API needs nothing of the jobs and of updates but types.
function codeOf(error: Error): ErrorCode | undefined {
  if (!['JobError', 'UpdateError'].includes(error.name) || !('code' in error)) return undefined;
  return isCode(error.code) ? error.code : undefined;
}

/** undefined: an error of ours that the client must not see. */
export function apiErrorOf(error: unknown): ApiError | undefined {
  if (error instanceof ApiError) return error;
  if (error instanceof ValidationError) return new ApiError('validation', error.message, { errors: error.errors });
  if (error instanceof PluginError) return new ApiError(error.code, error.message, { retryable: error.retryable });
  if (!(error instanceof Error)) return undefined;
  if ('code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT'))
    return new ApiError('no_space', `a disk of the appliance is full: ${error.message}; free some space there`);
  const code = codeOf(error);
  return code === undefined ? undefined : new ApiError(code, error.message);
}

export function plainBody(error: ApiError): object {
  const reason = error.code === 'state_damaged' ? { reason: error.code } : {}; // a client must tell it from a server that is away
  return { error: { code: error.status, message: `${STATUS_CODES[error.status]}: ${error.message}`, ...reason } };
}

/** RFC 9457. */
export function problemBody(error: ApiError): object {
  return {
    type: `urn:container-backup:error:${error.code}`,
    title: STATUS_CODES[error.status],
    status: error.status,
    detail: error.message,
    retryable: error.retryable,
    ...(error.more.errors === undefined ? {} : { errors: error.more.errors }),
  };
}
