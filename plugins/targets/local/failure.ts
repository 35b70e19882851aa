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

/** The operating system's code of an error, or ''. */
export function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

/** The coded form of what a file system call threw; a PluginError stays as it is. */
export function ioError(cause: unknown, what: string): PluginError {
  if (cause instanceof PluginError) return cause;
  const code = errorCode(cause);
  return new PluginError(codes[code] ?? 'io', `${what}: ${code || String(cause)}`, { cause });
}
