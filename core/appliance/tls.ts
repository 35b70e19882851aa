/** HTTPS: a certificate and its key from two PEM files, taken anew when they change. */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { unwatchFile, watchFile } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { UsageError } from '../config.js';
import type { PluginLog } from '../contract/index.js';
import { Mutex } from '../primitives/mutex.js';

export interface TlsFiles {
  readonly certificate: string;
  readonly key: string;
}
export interface TlsContext {
  /** With the chain, if the file holds one. */
  readonly cert: string;
  readonly key: string;
  readonly minVersion: 'TLSv1.2';
}

// They are looked at, not listened to: inotify would see neither what a link points to nor a folder that was swapped.
const lookEvery = 2_000;

async function pemOf(file: string, key: keyof TlsFiles): Promise<string> {
  return readFile(file, 'utf8').catch((error: unknown) => {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    const why = code === 'ENOENT' ? 'is not there' : code === 'EACCES' ? 'may not be read by this user' : `cannot be read: ${error}`;
    throw new UsageError(`${file} ${why}; tls_${key} must name a PEM file`);
  });
}

function certificateOf(pem: string, file: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch {
    throw new UsageError(`${file} holds no certificate in PEM form; make it begin with -----BEGIN CERTIFICATE-----`);
  }
}

function keyOf(pem: string, file: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch {
    // OpenSSL's words are left out: what it says of a key belongs in no log.
    const fix = /ENCRYPTED/.test(pem) ? 'is under a passphrase; store it without one' : 'holds no private key in PEM form';
    throw new UsageError(`${file} ${fix} (openssl pkey -in OLD -out ${file})`);
  }
}

/** Reads both and makes sure that they belong together. @throws UsageError that names the file */
export async function tlsContext(files: TlsFiles): Promise<TlsContext> {
  const [cert, key] = await Promise.all([pemOf(files.certificate, 'certificate'), pemOf(files.key, 'key')]);
  if (!certificateOf(cert, files.certificate).checkPrivateKey(keyOf(key, files.key)))
    throw new UsageError(
      `${files.key} is not the key of the certificate in ${files.certificate}; put the pair there that belongs together`,
    );
  return { cert, key, minVersion: 'TLSv1.2' };
}

/** Takes changed files for new connections. A pair that does not fit, as between two renames, leaves the old one in use.
 *  @returns a function that ends it */
export function followTls(files: TlsFiles, take: (context: TlsContext) => void, log: PluginLog): () => void {
  const looks = new Mutex(); // the last that was read is the one in use
  const look = async () => {
    try {
      take(await tlsContext(files));
      log('info', 'the changed certificate is in use', { file: files.certificate });
    } catch (error) {
      log('warn', `the old certificate stays in use: ${error instanceof Error ? error.message : error}`);
    }
  };
  const onChange = () => void looks.run(look);
  for (const file of Object.values(files)) watchFile(file, { interval: lookEvery, persistent: false }, onChange);
  return () => {
    for (const file of Object.values(files)) unwatchFile(file, onChange);
  };
}
