/** Keys: the fingerprint of a server's, and the private one of a login. */
import { createHash, createPrivateKey } from 'node:crypto';
import ssh2, { type ParsedKey, type ServerHostKeyAlgorithm } from 'ssh2';
import { PluginError } from '../../../core/contract/index.js';

/** The kinds of host key, in the order they are asked for. The order is fixed, so that a server that has several always
 *  shows the same one. */
export const hostKeyKinds: readonly (readonly ServerHostKeyAlgorithm[])[] = [
  ['ssh-ed25519'],
  ['ecdsa-sha2-nistp256', 'ecdsa-sha2-nistp384', 'ecdsa-sha2-nistp521'],
  ['rsa-sha2-512', 'rsa-sha2-256'],
];

/** As `ssh-keygen -l` prints it. */
export const fingerprintOf = (key: Buffer): string => `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`;

/** Which of hostKeyKinds a key is of: its first field names it, RSA by the name of the key, not of the signature. */
export function kindOf(key: Buffer): readonly ServerHostKeyAlgorithm[] | undefined {
  const name = key.toString('latin1', 4, 4 + key.readUInt32BE(0));
  return hostKeyKinds.find((kind) => kind.some((algorithm) => algorithm === name || (name === 'ssh-rsa' && algorithm.startsWith('rsa-'))));
}

/** Two fingerprints are the same whether or not they carry the padding of base64. */
export const sameFingerprint = (one: string, other: string): boolean => one.trim().replace(/=+$/, '') === other.trim().replace(/=+$/, '');

/** The private key of a login, in OpenSSH's format or PEM. @throws PluginError invalid, denied (wrong passphrase) */
export function readPrivateKey(text: string, passphrase: string | undefined): ParsedKey {
  // pasted keys lose their last line end or gain carriage returns; OpenSSH insists on both
  const pem = `${text.replaceAll('\r\n', '\n').trim()}\n`;
  const key = ssh2.utils.parseKey(fromPkcs8(pem, passphrase) ?? pem, passphrase);
  if (key instanceof Error) throw keyError(key.message, passphrase !== undefined);
  // a file of several keys is read as a list, whatever the types say
  const first: unknown = Array.isArray(key) ? key[0] : key;
  if (first !== key || !key.isPrivateKey())
    throw new PluginError('invalid', 'options.privateKey is no single private key; give the file without .pub');
  return key;
}

/** ssh2 does not read PKCS#8, which openssl writes; undefined when the text is none, or of a kind it cannot be turned to. */
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

/** Says what to change, and never anything of the key. */
function keyError(text: string, given: boolean): PluginError {
  if (/encrypted|passphrase/i.test(text) && !given)
    return new PluginError('invalid', 'options.privateKey is encrypted; give its passphrase in options.passphrase');
  if (/passphrase|decrypt|integrity/i.test(text))
    return new PluginError('denied', 'options.passphrase does not open options.privateKey; correct it');
  const fix = 'give it as ssh-keygen writes it, from -----BEGIN to END-----, or convert it with: ssh-keygen -p -f FILE';
  return new PluginError('invalid', `options.privateKey cannot be read; ${fix}`);
}
