/** Fingerprints of host keys, and private keys of logins. */
import { createHash, createPrivateKey } from 'node:crypto';
import ssh2, { type ParsedKey, type ServerHostKeyAlgorithm } from 'ssh2';
import { PluginError } from '../../../core/contract/index.js';

/** Kinds of host key in the order of asking. The order is fixed, so that a server with several keys always shows the same one. */
export const hostKeyKinds: readonly (readonly ServerHostKeyAlgorithm[])[] = [
  ['ssh-ed25519'],
  ['ecdsa-sha2-nistp256', 'ecdsa-sha2-nistp384', 'ecdsa-sha2-nistp521'],
  ['rsa-sha2-512', 'rsa-sha2-256'],
];

/** The fingerprint in the form of `ssh-keygen -l`. */
export const fingerprintOf = (key: Buffer): string => `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`;

/** The kind of a key, by its first field; RSA has the key's name there, not the signature's. */
export function kindOf(key: Buffer): readonly ServerHostKeyAlgorithm[] | undefined {
  const name = key.toString('latin1', 4, 4 + key.readUInt32BE(0));
  return hostKeyKinds.find((kind) => kind.some((algorithm) => algorithm === name || (name === 'ssh-rsa' && algorithm.startsWith('rsa-'))));
}

/** Whether two fingerprints are equal, ignoring base64 padding. */
export const sameFingerprint = (one: string, other: string): boolean => one.trim().replace(/=+$/, '') === other.trim().replace(/=+$/, '');

/** The private key of a login, in OpenSSH's format or PEM. @throws PluginError invalid, denied (wrong passphrase) */
export function readPrivateKey(text: string, passphrase: string | undefined): ParsedKey {
  // pasted keys lack the last line end or have carriage returns; OpenSSH accepts neither
  const pem = `${text.replaceAll('\r\n', '\n').trim()}\n`;
  const key = ssh2.utils.parseKey(fromPkcs8(pem, passphrase) ?? pem, passphrase);
  if (key instanceof Error) throw keyError(key.message, passphrase !== undefined);
  // parseKey returns a list for a file of several keys, whatever its types say
  const first: unknown = Array.isArray(key) ? key[0] : key;
  if (first !== key || !key.isPrivateKey())
    throw new PluginError('invalid', 'options.privateKey is no single private key; give the file without .pub');
  return key;
}

/** Converts PKCS#8, which openssl writes and ssh2 cannot read; undefined for other formats and unsupported kinds of key. */
function fromPkcs8(pem: string, passphrase: string | undefined): string | undefined {
  if (!/^-----BEGIN (ENCRYPTED )?PRIVATE KEY-----/.test(pem)) return undefined;
  try {
    const key = createPrivateKey({ key: pem, ...(passphrase === undefined ? {} : { passphrase }) });
    if (key.asymmetricKeyType === 'rsa') return String(key.export({ type: 'pkcs1', format: 'pem' }));
    if (key.asymmetricKeyType === 'ec') return String(key.export({ type: 'sec1', format: 'pem' }));
  } catch {
    if (pem.includes('ENCRYPTED')) throw keyError('encrypted, bad passphrase', passphrase !== undefined);
  }
  return undefined;
}

/** Says what to change, and nothing of the key itself. */
function keyError(text: string, given: boolean): PluginError {
  if (/encrypted|passphrase/i.test(text) && !given)
    return new PluginError('invalid', 'options.privateKey is encrypted; give its passphrase in options.passphrase');
  if (/passphrase|decrypt|integrity/i.test(text))
    return new PluginError('denied', 'options.passphrase does not open options.privateKey; correct it');
  const fix = 'give it as ssh-keygen writes it, from -----BEGIN to END-----, or convert it with: ssh-keygen -p -f FILE';
  return new PluginError('invalid', `options.privateKey cannot be read; ${fix}`);
}
