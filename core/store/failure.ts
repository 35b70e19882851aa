/** Problems of the state folder as a whole, and the meaning of a failed write. */
import { statfs } from 'node:fs/promises';
import { PluginError } from '../contract/index.js';
import { ServiceError } from '../primitives/service-error.js';
import type { StateReport } from './copies/verdict.js';

/** Acknowledged rows are missing, and no copy has them. Nothing was changed or deleted. */
export class StateDamaged extends ServiceError {
  constructor(
    readonly folder: string,
    readonly report: StateReport,
  ) {
    super(
      'state_damaged',
      `the state in ${folder} is damaged: ${report.reason}; container-backup state show --state ${folder} lists what is left`,
    );
  }
}

/** An error's text with those of its causes: Level puts the operating system's error into the cause. */
export function wordsOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = 'code' in error && typeof error.code === 'string' ? `${error.code}: ` : '';
  return `${code}${error.message}${error.cause === undefined ? '' : ` (${wordsOf(error.cause)})`}`;
}

export const isNoSpace = (error: unknown): boolean => /ENOSPC|EDQUOT|No space left on device|Disk quota exceeded/.test(wordsOf(error));

const isReadOnly = (error: unknown): boolean =>
  /EROFS|EACCES|EPERM|Read-only file system|Permission denied|Operation not permitted/.test(wordsOf(error));

/** @returns the error for a folder that cannot be used at all, whatever it contains; else undefined */
export function stateErrorOf(folder: string, error: unknown): ServiceError | undefined {
  if (error instanceof StateDamaged) return undefined;
  if (error instanceof ServiceError) return error;
  const words = wordsOf(error);
  if (isReadOnly(error)) {
    const fix = 'mount it writable, or give the user of the service the right to write there';
    return new ServiceError('read_only', `the state folder ${folder} cannot be written (${words}); ${fix}`);
  }
  if (/already held by process|Resource temporarily unavailable/.test(words))
    return new ServiceError('in_use', `the state folder ${folder} is in use by another container-backup; stop it or take another --state`);
  return undefined;
}

/** The error for a client whose write failed. @param needed bytes that the write needs */
export async function writeError(folder: string, error: unknown, needed: number): Promise<PluginError> {
  if (!isNoSpace(error)) {
    const message = `the state folder ${folder} cannot be written: ${wordsOf(error)}; check its disk`;
    return new PluginError('unavailable', message, { retryable: true, cause: error });
  }
  const free = await freeBytes(folder);
  const message = `there is no room in ${folder}: ${free} bytes are free and ${needed} are needed; free some space there`;
  return new PluginError('no_space', message, { retryable: true, cause: error });
}

/** Bytes that an unprivileged process may still use; 0 when unknown. */
export async function freeBytes(folder: string): Promise<number> {
  return statfs(folder).then(
    ({ bavail, bsize }) => bavail * bsize,
    () => 0,
  );
}
