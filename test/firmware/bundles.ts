/** Updates for the suite: what is sent to the appliance, and what is made for it. */
import { execFile } from 'node:child_process';
import { openAsBlob } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Answer, ApiClient } from '../support/api-client.js';
import { repository } from './machine.js';

const run = promisify(execFile);

/** A bundle with another version and whatever `script` changes in its root; it takes half a minute. @returns its path */
export async function variantBundle(o: { board: string; folder: string; version: string; script?: string }): Promise<string> {
  const { board, folder, version, script } = o;
  const env = { ...process.env, BOARD: board, VERSION: version };
  const verb = join(repository, 'test/firmware/variant-bundle');
  // Out of what the guest leaves of the processors: it is needed minutes later.
  const args = ['-n', '19', verb, folder, ...(script === undefined ? [] : [script])];
  const { stdout } = await run('nice', args, { env, maxBuffer: 64 << 20 });
  return stdout.trim();
}

export interface KeyPair {
  readonly key: string;
  readonly certificate: string;
}

/** The keys that the built image trusts. */
export const developmentKeys: KeyPair = {
  key: process.env.FIRMWARE_KEY ?? join(repository, 'out/keys/development.key.pem'),
  certificate: process.env.FIRMWARE_CERT ?? join(repository, 'out/keys/development.cert.pem'),
};

/** Keys that nobody trusts. */
export async function foreignKeys(folder: string): Promise<KeyPair> {
  const [key, certificate] = [join(folder, 'foreign.key.pem'), join(folder, 'foreign.cert.pem')];
  const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30', '-subj', '/CN=foreign'];
  await run('openssl', [...args, '-keyout', key, '-out', certificate]);
  return { key, certificate };
}

/** A bundle of some kilobytes. */
export async function smallBundle(file: string, o: { compatible: string; version: string; keys: KeyPair }): Promise<string> {
  const env = { ...process.env, COMPATIBLE: o.compatible, VERSION: o.version, KEY: o.keys.key, CERTIFICATE: o.keys.certificate };
  await run(join(repository, 'test/firmware/small-bundle'), [file], { env });
  return file;
}

/** Turns one bit of a file over. */
export async function flipBit(file: string, byte: number): Promise<void> {
  const handle = await open(file, 'r+');
  try {
    const bytes = Buffer.alloc(1);
    await handle.read(bytes, 0, 1, byte);
    bytes[0] = (bytes[0] ?? 0) ^ 16;
    await handle.write(bytes, 0, 1, byte);
  } finally {
    await handle.close();
  }
}

/** What is wrong with it is told as a code in `type`. */
export async function sendBundle(api: ApiClient, file: string): Promise<Answer> {
  return api.ask('PUT', '/update/bundle', await openAsBlob(file), {
    'content-type': 'application/octet-stream',
    accept: 'application/problem+json',
  });
}
