/** Seals what must not be read from the database files, and signs what this appliance must know again: AES-256-GCM and
 *  HMAC-SHA-256 under a key of this appliance. */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';

export interface Vault {
  /** `purpose` is bound to the text: a sealed text copied to another record doesn't open. */
  seal(text: string, purpose: string): string;
  unseal(sealed: string, purpose: string): string;
  /** HMAC-SHA-256 in hex, under a key that HKDF derives for the purpose alone. */
  mac(text: string, purpose: string): string;
}

const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;

async function makeKey(folder: string, file: string): Promise<void> {
  const handle = await open(file, 'wx', 0o600);
  try {
    await handle.writeFile(randomBytes(keyBytes));
    await handle.sync();
  } finally {
    await handle.close();
  }
  const parent = await open(folder, 'r');
  try {
    await parent.sync();
  } finally {
    await parent.close();
  }
}

export async function openVault(folder: string): Promise<Vault> {
  const file = join(folder, 'secret.key');
  await makeKey(folder, file).catch((error: unknown) => {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
  });
  const key = await readFile(file);
  if (key.length !== keyBytes) throw new Error(`${file} is damaged; put its copy back, or remove it and enter all passwords again`);
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
