/** Maps errors between dialling and login to the contract's codes. */
import { PluginError } from '../../../core/contract/index.js';

/** The server's address in messages; an IPv6 address gets the brackets that it lacks. */
export const showAddress = (host: string, port: number): string =>
  host.includes(':') && !host.startsWith('[') ? `[${host}]:${port}` : `${host}:${port}`;

/** The server is unreachable or stopped answering. Retryable: a later call may succeed without any change. */
export const awayError = (address: string, why: string, cause?: unknown): PluginError =>
  new PluginError('unavailable', `${address}: ${why}`, { retryable: true, cause });

const reasons: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing answers on this port; start the SSH server or change options.port',
  ECONNRESET: 'the connection was reset',
  EPIPE: 'the connection was reset',
  ETIMEDOUT: 'the server does not answer; check the address, the network and the firewall',
  EHOSTUNREACH: 'there is no route to this host; check the address and the network',
  ENETUNREACH: 'there is no route to this network; check the address and the network',
  ENOTFOUND: 'this name is not known; check options.host and the name server',
  EAI_AGAIN: 'the name server does not answer',
};

/** An error's code as text; Node wraps several errors when a name has several addresses. */
function codeOf(cause: unknown): string {
  if (cause instanceof AggregateError && cause.errors.length > 0) return codeOf(cause.errors[0]);
  return cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : '';
}

/** The error for a failure of the network. */
export function networkError(address: string, cause: unknown): PluginError {
  const code = codeOf(cause);
  return awayError(address, reasons[code] ?? (code || (cause instanceof Error ? cause.message : String(cause))), cause);
}

const levelOf = (cause: unknown): string =>
  cause instanceof Error && 'level' in cause && typeof cause.level === 'string' ? cause.level : '';

/** Whether the server has no host key of the requested kinds. */
export const lacksHostKey = (cause: unknown): boolean => cause instanceof Error && /no matching host key format/.test(cause.message);

/** The error for a failure before the connection was ready. `offered`: login methods that the server named last. */
export function handshakeError(address: string, cause: unknown, login: { user: string; offered: readonly string[] }): PluginError {
  if (cause instanceof PluginError) return cause;
  const text = cause instanceof Error ? cause.message : String(cause);
  if (levelOf(cause) === 'client-authentication' || /authentication failures/i.test(text)) return loginError(address, cause, login);
  if (/no matching/.test(text)) {
    const fix =
      'update the server or let it offer curve25519 or ecdh, aes-gcm, aes-ctr or chacha20, and an ed25519, ecdsa or rsa-sha2 host key';
    return new PluginError('unsupported', `${address}: no common encryption (${text}); ${fix}`, { cause });
  }
  if (/before handshake|timed out/i.test(text))
    return awayError(address, 'the SSH server does not answer in time; check that it runs and is not overloaded', cause);
  if (levelOf(cause) === 'client-socket' || codeOf(cause) !== '') return networkError(address, cause);
  return awayError(address, `the connection failed: ${text}`, cause);
}

function loginError(address: string, cause: unknown, { user, offered }: { user: string; offered: readonly string[] }): PluginError {
  const ways = offered.length === 0 ? '' : ` (the server accepts ${offered.join(', ')})`;
  const fix = 'correct options.username and options.password or options.privateKey, or let the server accept them';
  return new PluginError('denied', `${address}: login as ${JSON.stringify(user)} was refused${ways}; ${fix}`, { cause });
}
