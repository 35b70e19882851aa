/** Turns every thrown value into an error of the table, and that into one of the two forms of an error answer. */
import { STATUS_CODES } from 'node:http';
import { CodedError } from '../contract/index.js';
import { type ErrorCode, errorRows, isErrorCode } from '../primitives/error-rows.js';
import { hasCode } from '../primitives/guards.js';
import { ServiceError } from '../primitives/service-error.js';
import { type Fault, ValidationError } from '../schemas.js';

/** A ServiceError whose answer has headers of its own, or which names faults. */
export class ApiError extends ServiceError {
  constructor(
    code: ErrorCode,
    message: string,
    readonly more: {
      readonly errors?: readonly Fault[];
      readonly headers?: Readonly<Record<string, string>>;
      readonly retryable?: boolean;
    } = {},
  ) {
    super(code, message, more);
  }
  get status(): number {
    return errorRows[this.code].status;
  }
}

/** One invalid field of the body. */
export function invalidField(pointer: string, reason: string): ValidationError {
  return new ValidationError([{ pointer, reason }]);
}

/** Undefined for an internal error, which the client must not see. */
export function apiErrorOf(error: unknown): ApiError | undefined {
  if (error instanceof ApiError) return error;
  if (error instanceof ValidationError) return new ApiError('validation', error.message, { errors: error.errors });
  if (error instanceof CodedError && isErrorCode(error.code))
    return new ApiError(error.code, error.message, { retryable: error.retryable });
  if (error instanceof Error && hasCode(error, 'ENOSPC', 'EDQUOT'))
    return new ApiError('no_space', `a disk of the appliance is full: ${error.message}; free some space there`);
  return undefined;
}

export function plainBody(error: ApiError): object {
  const reason = error.code === 'state_damaged' ? { reason: error.code } : {}; // so that a client can tell it from an unreachable server
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
    fix: errorRows[error.code].fix,
    ...(error.more.errors === undefined ? {} : { errors: error.more.errors }),
  };
}
