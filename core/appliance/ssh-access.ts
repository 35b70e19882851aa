/** Switches the appliance's own sshd by a flag file that the image watches, and writes the keys that may log in. */
import { chmod, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { SshAccess, SshSwitch } from '../api/deps.js';
import type { PluginLog } from '../contract/index.js';
import { durableFile, durableRemove } from '../primitives/durable.js';
import { Mutex } from '../primitives/mutex.js';
import { type Fault, ValidationError } from '../schemas.js';

// sshd's defaults in Debian 12, without DSA. It would silently refuse an RSA key of fewer bits.
const kinds: readonly string[] = [
  'ssh-ed25519',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'ssh-rsa',
  'sk-ssh-ed25519@openssh.com',
  'sk-ecdsa-sha2-nistp256@openssh.com',
];
const leastRsaBits = 2048;

/** The length-prefixed strings of a public key; undefined when the lengths do not add up. */
function fieldsOf(blob: Buffer): Buffer[] | undefined {
  const fields: Buffer[] = [];
  for (let at = 0; at < blob.length; ) {
    if (at + 4 > blob.length) return undefined;
    const end = at + 4 + blob.readUInt32BE(at);
    if (end > blob.length) return undefined;
    fields.push(blob.subarray(at + 4, end));
    at = end;
  }
  return fields;
}

/** The fault of an authorized_keys line. Options before the key are refused: they could run commands unseen. */
function faultOf(line: string): string | undefined {
  if (/PRIVATE KEY/.test(line)) return 'is a private key; send the file that ends with .pub';
  const [, kind = '', text = ''] = /^(\S+) ([A-Za-z0-9+/]+={0,2})(?: \P{Cc}*)?$/u.exec(line) ?? [];
  if (!kinds.includes(kind)) return `must be "TYPE KEY COMMENT" in one line, with TYPE one of ${kinds.join(', ')}`;
  const fields = fieldsOf(Buffer.from(text, 'base64'));
  if (fields?.[0]?.toString('latin1') !== kind || fields.length < 2)
    return `is cut or damaged: the text after ${kind} is no key of that type`;
  if (kind === 'ssh-ed25519' && (fields.length !== 2 || fields[1]?.length !== 32)) return 'is cut or damaged: an ed25519 key has 32 bytes';
  const bits = (fields[2]?.length ?? 0) * 8;
  return kind === 'ssh-rsa' && bits < leastRsaBits ? `is too short: RSA needs ${leastRsaBits} bits` : undefined;
}

function checkKeys(lines: readonly string[]): string[] {
  const trimmed = lines.map((line) => line.trim());
  const faults = trimmed.flatMap((line, at): Fault[] => {
    const reason = faultOf(line);
    return reason === undefined ? [] : [{ pointer: `/authorized_keys/${at}`, reason }];
  });
  if (faults.length > 0) throw new ValidationError(faults);
  return [...new Set(trimmed)];
}

/** `folder` holds `authorized_keys` and, while sshd is switched on, `ssh-enabled`. */
export function sshSwitch({ folder, log }: { readonly folder: string; readonly log: PluginLog }): SshSwitch {
  const flag = join(folder, 'ssh-enabled');
  const file = join(folder, 'authorized_keys');
  const get = async (): Promise<SshAccess> => {
    const text = await readFile(file, 'utf8').catch(() => '');
    const lines = text.split('\n').map((line) => line.trim());
    const enabled = await stat(flag).then(
      () => true,
      () => false,
    );
    return { enabled, authorized_keys: lines.filter((line) => line !== '' && !line.startsWith('#')) };
  };
  const changes = new Mutex();
  const change = async (enabled: boolean, given: readonly string[] | undefined) => {
    const keys = given === undefined ? (await get()).authorized_keys : checkKeys(given);
    if (enabled && keys.length === 0)
      throw new ValidationError([{ pointer: '/authorized_keys', reason: 'must hold a key: there is no other way to log in' }]);
    // Remove the flag first: after a power cut sshd never runs with keys that were to be removed.
    if (!enabled) await durableRemove(flag);
    if (given !== undefined) {
      await durableFile(file, keys.map((key) => `${key}\n`).join(''));
      await chmod(file, 0o600);
    }
    if (enabled) await durableFile(flag, '');
    log('info', enabled ? 'SSH is on' : 'SSH is off', { keys: keys.length });
    return get();
  };
  return {
    get,
    set: ({ enabled, authorized_keys }) => changes.run(() => change(enabled, authorized_keys)),
  };
}
