/** Encrypts secrets in the database (AES-256-GCM) and signs what this appliance must recognise (HMAC-SHA-256), with the
 *  appliance's key. */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder } from './primitives/durable.js';
import { hasCode } from './primitives/guards.js';

export interface Vault {
  /** Encrypts a text. `purpose` is authenticated too: a sealed text copied to another row does not open. */
  seal(text: string, purpose: string): string;
  unseal(sealed: string, purpose: string): string;
  /** HMAC-SHA-256 in hex, with a key that HKDF derives for this purpose. */
  mac(text: string, purpose: string): string;
}

const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;

const keyFile = (folder: string): string => join(folder, 'secret.key');

/** Makes a key where there is none. Durable when it resolves. @throws Error EEXIST */
export async function makeKey(folder: string): Promise<void> {
  {
    await using handle = await open(keyFile(folder), 'wx', 0o600);
    await handle.writeFile(randomBytes(keyBytes));
    await handle.sync();
  }
  await syncFolder(folder);
}

/** `damaged`: it has the wrong length. */
export async function keyState(folder: string): Promise<'kept' | 'missing' | 'damaged'> {
  const key = await readFile(keyFile(folder)).catch((error: unknown) => {
    if (!hasCode(error, 'ENOENT')) throw error;
    return undefined;
  });
  if (key === undefined) return 'missing';
  return key.length === keyBytes ? 'kept' : 'damaged';
}

/** @throws Error when the key is missing or damaged; openKey makes a new one at the start and logs the consequences */
export async function openVault(folder: string): Promise<Vault> {
  const key = await readFile(keyFile(folder));
  if (key.length !== keyBytes) throw new Error(`${keyFile(folder)} is damaged; start the service again`);
  return {
    seal(text, purpose) {
      const nonce = randomBytes(nonceBytes);
      const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: tagBytes }).setAAD(Buffer.from(purpose));
      const body = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
      return Buffer.concat([nonce, cipher.getAuthTag(), body]).toString('base64');
    },
    unseal(sealed, purpose) {
      const bytes = Buffer.from(sealed, 'base64');
      const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, nonceBytes), { authTagLength: tagBytes });
      decipher.setAAD(Buffer.from(purpose)).setAuthTag(bytes.subarray(nonceBytes, nonceBytes + tagBytes));
      return Buffer.concat([decipher.update(bytes.subarray(nonceBytes + tagBytes)), decipher.final()]).toString('utf8');
    },
    mac(text, purpose) {
      const own = Buffer.from(hkdfSync('sha256', key, '', `mac/${purpose}`, keyBytes));
      return createHmac('sha256', own).update(text).digest('hex');
    },
  };
}
