/** Makes the suite's update bundles and sends them to the appliance. */
import { execFile } from 'node:child_process';
import { openAsBlob } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Answer, ApiClient } from '../support/api-client.js';
import { repository } from './machine.js';

const run = promisify(execFile);

/** Makes a bundle of another version; `script` changes its root. Takes half a minute. @returns the path */
export async function variantBundle(o: { board: string; folder: string; version: string; script?: string }): Promise<string> {
  const { board, folder, version, script } = o;
  const env = { ...process.env, BOARD: board, VERSION: version };
  const verb = join(repository, 'test/firmware/variant-bundle');
  // nice: the guest needs the processors first; the suite needs the bundle minutes later.
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

/** Makes keys that the image does not trust. */
export async function foreignKeys(folder: string): Promise<KeyPair> {
  const [key, certificate] = [join(folder, 'foreign.key.pem'), join(folder, 'foreign.cert.pem')];
  const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30', '-subj', '/CN=foreign'];
  await run('openssl', [...args, '-keyout', key, '-out', certificate]);
  return { key, certificate };
}

/** Makes a bundle of some kilobytes. @returns the path */
export async function smallBundle(file: string, o: { compatible: string; version: string; keys: KeyPair }): Promise<string> {
  const env = { ...process.env, COMPATIBLE: o.compatible, VERSION: o.version, KEY: o.keys.key, CERTIFICATE: o.keys.certificate };
  await run(join(repository, 'test/firmware/small-bundle'), [file], { env });
  return file;
}

/** Flips one bit of a file. */
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

/** Uploads a bundle. An error answer has its code in `type`. */
export async function sendBundle(api: ApiClient, file: string): Promise<Answer> {
  return api.ask('PUT', '/update/bundle', await openAsBlob(file), {
    'content-type': 'application/octet-stream',
    accept: 'application/problem+json',
  });
}
