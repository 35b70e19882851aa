import { PluginError, type PluginErrorCode } from '../../../core/contract/index.js';

const codes: Readonly<Record<string, PluginErrorCode>> = {
  ENOENT: 'not_found',
  EEXIST: 'exists',
  EISDIR: 'exists', // a rename onto a folder
  ENOSPC: 'no_space',
  EDQUOT: 'no_space',
  EFBIG: 'no_space',
  EROFS: 'read_only',
  EACCES: 'denied',
  EPERM: 'denied',
  EINVAL: 'invalid',
  EILSEQ: 'invalid',
  ELOOP: 'invalid',
  ENAMETOOLONG: 'invalid',
  ENOTDIR: 'invalid',
  EBUSY: 'in_use',
  ENOTEMPTY: 'in_use',
  ESTALE: 'unavailable',
  ENODEV: 'unavailable',
  ENOTCONN: 'unavailable',
};

/** The system's code of an error (ENOENT), or ''. */
export function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

const fixes: Partial<Readonly<Record<PluginErrorCode, string>>> = {
  no_space: 'free some space there or lower the retention',
  read_only: 'mount it so that it may be written',
  denied: 'give the service the right to write there',
};

/** Adds to an error the share, which a path alone does not tell, and what to do. */
export function onShare(error: unknown, share: string): unknown {
  const fix = error instanceof PluginError ? fixes[error.code] : undefined;
  if (!(error instanceof PluginError) || fix === undefined) return error;
  return new PluginError(error.code, `share ${share}: ${error.message}; ${fix}`, { retryable: error.retryable, cause: error });
}

/** Turns the error of a file system call into a PluginError; leaves a PluginError as it is. */
export function ioError(cause: unknown, what: string): PluginError {
  if (cause instanceof PluginError) return cause;
  const code = errorCode(cause);
  return new PluginError(codes[code] ?? 'io', `${what}: ${code || String(cause)}`, { cause });
}
