/** Turns refusals of the server into errors of the contract. */
import { PluginError, type PluginErrorCode } from '../../../core/contract/index.js';
import { untilAborted } from '../../shared/source.js';
import type { FileSystem, Sftp } from './protocol/client.js';
import { hasStatus, Status, StatusError } from './protocol/status.js';

/** Below so many free bytes, a write that fails without a reason counts as no_space. */
const nothingFree = 4 << 20;

/** Turns an error at `path`, a path of the server, into a PluginError. OpenSSH says only "Failure" for a full disk, and "Failure"
 *  or "Permission denied" for a read-only one, so the file system's state is asked for (statvfs). */
export async function explain(error: unknown, sftp: Sftp | undefined, path: string): Promise<PluginError> {
  if (error instanceof PluginError) return error;
  const where = `${sftp === undefined ? '' : `${sftp.channel.connection.address}: `}${path}`;
  if (!(error instanceof StatusError))
    return new PluginError('failed', `${where}: the server's answer makes no sense: ${String(error)}`, { cause: error });
  const asked = error.status === Status.denied || error.status === Status.failure;
  const found = asked && sftp !== undefined ? await asking(fileSystemAt(sftp, path)).catch(() => undefined) : undefined;
  const [code, fix] = meaning(error, found);
  return new PluginError(code, `${where}: the server says ${JSON.stringify(error.message)}; ${fix}`, { cause: error });
}

/** Waits 1 s at most for the reason of a failure. */
const asking = <T>(work: Promise<T>): Promise<T> => untilAborted(work, AbortSignal.timeout(1_000), 'the file system');

function meaning({ status }: StatusError, found: FileSystem | undefined): readonly [PluginErrorCode, string] {
  if (found?.readOnly) return ['read_only', 'its file system is mounted read-only: mount it so that it may be written'];
  switch (status) {
    case Status.noSuchFile:
      return ['not_found', 'a file or folder on the way is not there'];
    case Status.denied:
      return [
        'denied',
        'give the login the right to read and write there, or choose another folder with options.base ("~/x" is x in its home)',
      ];
    case Status.badMessage:
      return ['invalid', 'it does not take this name; use a shorter one'];
    case Status.unsupported:
      return ['unsupported', 'it cannot do this'];
  }
  if (found !== undefined && found.free < nothingFree)
    return ['no_space', 'its file system is full: free some space there or lower the retention'];
  const guess =
    found === undefined
      ? 'see whether its disk is full, a quota is reached or it may not be written'
      : 'see whether a quota is reached, and its log';
  return ['io', guess];
}

/** The file system of a path, or of its nearest existing parent. */
export async function fileSystemAt(sftp: Sftp, path: string): Promise<FileSystem | undefined> {
  if (!sftp.offers('statvfs@openssh.com')) return undefined;
  for (let at = path; ; at = parentOf(at)) {
    try {
      return await sftp.fileSystem(at);
    } catch (error) {
      if (!hasStatus(error, Status.noSuchFile) || parentOf(at) === at) throw error;
    }
  }
}

/** The parent folder of an absolute path. */
export const parentOf = (path: string): string => path.slice(0, path.lastIndexOf('/')) || '/';
