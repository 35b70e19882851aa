import { PluginError, type PluginErrorCode, pluginErrorCodes } from '../../../core/contract/index.js';

/** Server, user and share, for messages. */
export interface Peer {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly share: string;
}

const codes: Readonly<Partial<Record<PluginErrorCode, readonly string[]>>> = {
  denied: [
    ...['LOGON_FAILURE', 'WRONG_PASSWORD', 'NO_SUCH_USER', 'LOGON_TYPE_NOT_GRANTED', 'INVALID_LOGON_HOURS', 'INVALID_WORKSTATION'],
    ...['NETWORK_ACCESS_DENIED', 'ACCESS_DENIED', 'CANNOT_DELETE', 'PRIVILEGE_NOT_HELD', 'NO_SUCH_DOMAIN', 'NO_LOGON_SERVERS'],
  ],
  read_only: ['MEDIA_WRITE_PROTECTED'],
  no_space: ['DISK_FULL', 'QUOTA_EXCEEDED', 'DISK_QUOTA_EXCEEDED', 'FILE_TOO_LARGE'],
  not_found: ['OBJECT_NAME_NOT_FOUND', 'OBJECT_PATH_NOT_FOUND', 'NO_SUCH_FILE', 'BAD_NETWORK_NAME'],
  exists: ['OBJECT_NAME_COLLISION', 'OBJECT_NAME_EXISTS'],
  invalid: [
    ...['FILE_IS_A_DIRECTORY', 'NOT_A_DIRECTORY', 'OBJECT_NAME_INVALID', 'OBJECT_PATH_INVALID', 'OBJECT_PATH_SYNTAX_BAD'],
    ...['NAME_TOO_LONG', 'ILLEGAL_CHARACTER', 'UNMAPPABLE_CHARACTER'],
  ],
  in_use: ['SHARING_VIOLATION', 'FILE_LOCK_CONFLICT', 'DELETE_PENDING', 'DIRECTORY_NOT_EMPTY'],
  unsupported: ['NOT_SUPPORTED', 'NOT_IMPLEMENTED', 'SMB_NO_PREAUTH_INTEGRITY_HASH_OVERLAP'],
  unavailable: [
    ...['CONNECTION_REFUSED', 'CONNECTION_RESET', 'CONNECTION_DISCONNECTED', 'CONNECTION_ABORTED', 'CONNECTION_INVALID'],
    ...['HOST_UNREACHABLE', 'NETWORK_UNREACHABLE', 'PORT_UNREACHABLE', 'IO_TIMEOUT', 'BAD_NETWORK_PATH', 'NETWORK_BUSY'],
    ...['LOCAL_DISCONNECT', 'REMOTE_DISCONNECT', 'INVALID_NETWORK_RESPONSE', 'UNEXPECTED_NETWORK_ERROR', 'NETWORK_NAME_DELETED'],
    ...['USER_SESSION_DELETED', 'NETWORK_SESSION_EXPIRED', 'INSUFFICIENT_RESOURCES', 'INSUFF_SERVER_RESOURCES', 'NO_MEMORY'],
    ...['REQUEST_NOT_ACCEPTED', 'TOO_MANY_SESSIONS', 'SERVER_UNAVAILABLE', 'PIPE_BROKEN', 'FILE_CLOSED', 'INVALID_HANDLE', 'NOT_FOUND'],
  ],
  io: ['IO_DEVICE_ERROR', 'DISK_CORRUPT_ERROR', 'FILE_CORRUPT_ERROR', 'UNEXPECTED_IO_ERROR', 'DATA_ERROR', 'CRC_ERROR'],
};

const codeOf = new Map(pluginErrorCodes.flatMap((code) => (codes[code] ?? []).map((name) => [name, code] as const)));

/** do_put and do_get of Samba's source3/client/client.c: "(%3.1f kb/s) (average %3.1f kb/s)", or KiloBytes/sec. */
const finished = /^(?:putt|gett)ing file .* \([^()]+\/s(?:ec)?\) \(average [^()]+\/s(?:ec)?\)$/;

/** The status in a line of smbclient, before or after a path. A path may hold a similar name. */
function statusOn(line: string): string | undefined {
  // a line of a listing, or of a completed transfer
  if (line.startsWith('  ') || finished.test(line)) return undefined;
  const found =
    /^(?:Error )?NT_STATUS_([A-Z0-9_]+)/.exec(line) ?? /NT_STATUS_([A-Z0-9_]+)$/.exec(line) ?? /NT_STATUS_([A-Z0-9_]+)/.exec(line);
  return found?.[1];
}

/** The first status in smbclient's output, without NT_STATUS_; undefined when nothing failed. */
export function statusIn(output: string): string | undefined {
  for (const line of output.split('\n')) {
    const status = statusOn(line);
    if (status !== undefined) return status;
  }
  return undefined;
}

export function statusCode(status: string): PluginErrorCode {
  if (/^(ACCOUNT|PASSWORD)_/.test(status)) return 'denied';
  return codeOf.get(status) ?? 'failed';
}

/** Whether the status means that the connection is lost. */
export const isLost = (status: string): boolean => statusCode(status) === 'unavailable';
/** Whether the status means that a path or a parent folder does not exist. */
export const isAbsent = (status: string): boolean => statusCode(status) === 'not_found' || status === 'NOT_A_DIRECTORY';

const fixes: Partial<Readonly<Record<PluginErrorCode, string>>> = {
  no_space: 'free some space there or lower the retention',
  read_only: 'give the user the right to write there, or take another share',
  in_use: 'another program has it open; close it there',
};

/** The error of a command on a reachable share. `code` overrides the status if the caller knows more. */
export function shareError(status: string, what: string, peer: Peer, code = statusCode(status)): PluginError {
  if (code === 'unavailable') return unavailable(peer, `${what}: ${status}`);
  const fix = code === 'denied' ? `give user ${peer.user} the right to do that` : fixes[code];
  const text = `${what} on share ${peer.share} of ${peer.host}: ${status}${fix === undefined ? '' : `; ${fix}`}`;
  return new PluginError(code, text, { retryable: code === 'in_use' });
}

/** The error of a transfer. After a break smbclient may report consequences of its own, so only a known refusal of the server
 *  counts as one; anything else is a break. */
export function transferError(said: string, what: string, peer: Peer): PluginError {
  const status = statusIn(said);
  if (status === undefined || statusCode(status) === 'failed')
    return unavailable(peer, `${what}: ${status ?? 'smbclient ended too early'}`);
  return shareError(status, what, peer);
}

/** Whether smbclient reported that it could not reach the share. */
export const isConnectError = (said: string): boolean =>
  /^(session setup|tree connect|protocol negotiation) failed|^do_connect|^Encryption required|^failed to/m.test(said);

export function unavailable({ host, port }: Peer, why: string): PluginError {
  const fix = `check that the server runs and that its SMB port ${port} can be reached`;
  return new PluginError('unavailable', `${host} does not answer as it should (${why}); ${fix}`, { retryable: true });
}

/** The error that kept smbclient from the share, taken from its whole output. */
export function connectError(output: string, peer: Peer): PluginError {
  const { host, share, user } = peer;
  if (/doesn't support SMB3 encryption|encryption required/i.test(output)) {
    const fix = 'let it encrypt (Samba: smb encrypt = desired), or set encrypt to false';
    return new PluginError('unsupported', `${host} cannot encrypt, which is wanted; ${fix}`);
  }
  if (/signing is (mandatory|required)/i.test(output))
    return new PluginError('unsupported', `${host} cannot sign its messages; let it do so (Samba: server signing = auto)`);
  if (/failed to (run command|execute)/.test(output))
    return new PluginError('unsupported', 'smbclient could not be started; install the package smbclient');
  const status = statusIn(output);
  if (status === undefined) return unavailable(peer, 'the connection ended');
  if (status === 'BAD_NETWORK_NAME' || status === 'OBJECT_NAME_NOT_FOUND')
    return new PluginError('not_found', `${host} has no share ${share}; make it there, or correct the first part of base`);
  const code = statusCode(status);
  if (status === 'ACCESS_DENIED' && /tree connect failed/.test(output))
    return new PluginError('denied', `${host} does not let user ${user} use share ${share}; give it the right to`);
  if (code === 'denied') {
    const guest = status === 'ACCESS_DENIED' ? ' (it may take unknown users as guests, which is refused here)' : '';
    return new PluginError('denied', `${host} refuses user ${user}: ${status}${guest}; correct user name, password or domain`);
  }
  if (code === 'unavailable' || status === 'UNSUCCESSFUL') return unavailable(peer, status);
  if (code === 'unsupported') return new PluginError(code, `${host} cannot do SMB 2 or 3 as needed: ${status}; update the server`);
  return new PluginError('failed', `share ${share} of ${host} could not be reached: ${status}`, { retryable: true });
}
