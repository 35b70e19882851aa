/** HTTPS: reads a certificate and its key from two PEM files, and again when they change. */
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
  /** PEM, with the chain if the file has one. */
  readonly cert: string;
  readonly key: string;
  readonly minVersion: 'TLSv1.2';
}

// Polled, since inotify notices neither a change behind a symlink nor a replaced folder.
const lookEvery = 2_000;

async function pemOf(file: string, key: keyof TlsFiles): Promise<string> {
  return readFile(file, 'utf8').catch((error: unknown) => {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    const why = code === 'ENOENT' ? 'does not exist' : code === 'EACCES' ? 'may not be read by this user' : `cannot be read: ${error}`;
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
    // OpenSSL's message is dropped: what it says about a key must not get into a log.
    const fix = /ENCRYPTED/.test(pem) ? 'is under a passphrase; store it without one' : 'holds no private key in PEM form';
    throw new UsageError(`${file} ${fix} (openssl pkey -in OLD -out ${file})`);
  }
}

/** Reads both files and checks that key and certificate match. @throws UsageError with the file's name */
export async function tlsContext(files: TlsFiles): Promise<TlsContext> {
  const [cert, key] = await Promise.all([pemOf(files.certificate, 'certificate'), pemOf(files.key, 'key')]);
  if (!certificateOf(cert, files.certificate).checkPrivateKey(keyOf(key, files.key)))
    throw new UsageError(`${files.key} is not the key of the certificate in ${files.certificate}; put a matching pair there`);
  return { cert, key, minVersion: 'TLSv1.2' };
}

/** Uses changed files for new connections. A pair that does not match, as between two renames, leaves the old one in use.
 *  @returns a function that stops it */
export function followTls(files: TlsFiles, take: (context: TlsContext) => void, log: PluginLog): () => void {
  const looks = new Mutex(); // in order, so that the files read last are the ones in use
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
