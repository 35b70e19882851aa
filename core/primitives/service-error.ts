/** The error that the service itself throws: jobs, updates, the state, the API. */
import { CodedError } from '../contract/index.js';
import { type ErrorCode, errorRows } from './error-rows.js';

/** Its code is a row of the table, which also says whether it is retryable, unless the thrower knows better. */
export class ServiceError extends CodedError<ErrorCode> {
  override readonly name = 'ServiceError';
  constructor(code: ErrorCode, message: string, options: { readonly retryable?: boolean; readonly cause?: unknown } = {}) {
    super(code, message, { retryable: errorRows[code].retryable, ...options });
  }
}

export const aborted = (): ServiceError => new ServiceError('aborted', 'it was stopped before its end');
