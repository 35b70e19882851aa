/** manifest.json as docs/archive-format.md describes it, without any code of the project. */
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { type Body, isBody } from './api-client.js';

const sha256Of = (text: string | Buffer): string => createHash('sha256').update(text).digest('hex');

/** The file in format 1 with any first line, and its right hash. */
export const inFormat1 = (json: string | Buffer): Buffer => Buffer.concat([Buffer.from(json), Buffer.from(`\n${sha256Of(json)}\n`)]);

/** The file in format 2 with any JSON of an object, and its right hash. */
export function inFormat2(json: string | Buffer): Buffer {
  const body = Buffer.from(json).subarray(0, -1);
  return Buffer.concat([body, Buffer.from(`,"sha256":"${sha256Of(body)}"}\n`)]);
}

const isFormat1 = (text: string): boolean => text.startsWith('{"format":1,');

/** The file with this JSON and its right hash, in the form of its format. */
export const withHash = (json: string): Buffer => (isFormat1(json) ? inFormat1(json) : inFormat2(json));

/** The JSON in a file of either format, without the hash of the file. */
export const jsonIn = (text: string): string =>
  isFormat1(text) ? (text.split('\n')[0] ?? '') : text.replace(/,"sha256":"[0-9a-f]{64}"\}\n?$/, '}');

export function manifestIn(text: string): Body {
  const value: unknown = JSON.parse(jsonIn(text));
  if (isBody(value)) return value;
  throw new Error('the manifest is no object');
}

export const readManifestFile = async (path: string): Promise<Body> => manifestIn(await readFile(path, 'utf8'));

/** Writes another content with a right hash, as a later version or an attacker would. */
export async function changeManifestFile(path: string, change: (manifest: Body) => Body): Promise<void> {
  const { seal, ...manifest } = change(await readManifestFile(path));
  await writeFile(path, withHash(JSON.stringify({ ...manifest, ...(seal !== undefined && { seal }) }))); // the seal is the last key
}

/** Whether the file's own hash is right. */
export function isWholeFile(text: string): boolean {
  const [end = '', told] = /(?:\n|,"sha256":")([0-9a-f]{64})(?:"\})?\n$/.exec(text) ?? [];
  return end !== '' && sha256Of(text.slice(0, -end.length)) === told;
}
