/** Which files of a record were read back and compared with their SHA-256, when, and with what result. They are stored in a file
 *  of their own, since a manifest is never rewritten. Others may write there, so a file counts as proven only under the
 *  appliance's own HMAC. A reported failure is believed from anybody: it costs a new base or a warning. */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { PluginError, type Target } from '../../contract/index.js';
import { parseOwn, type Shape, ValidationError } from '../../schemas.js';
import { checkStored } from '../level/extract.js';
import { Meter } from '../level/meter.js';
import { parseBoundedJson } from './json-text.js';
import { verifiedName } from './layout.js';
import type { Manifest, StoredFile } from './manifest.js';
import { asDamage, perhapsOfFile, unlessStopped, wholeFile } from './record.js';
import { isMacOf, type Sealer } from './seal.js';

/** `at` is epoch ms; without `problem` the file was undamaged. */
export type Verification = Shape<'verified'>['files'][number];

const mostBytes = 8 << 20;
const mostFiles = 20_000;
const longestProblem = 1024;

export class Verifications {
  readonly #files: Map<string, Verification>;

  constructor(files: readonly Verification[] = []) {
    this.#files = new Map(files.map((file) => [file.path, file]));
  }

  /** The last verification of this very file, if there is one. */
  of({ path, sha256 }: StoredFile): Verification | undefined {
    const known = this.#files.get(path);
    return known?.sha256 === sha256 ? known : undefined;
  }

  /** Failures among the files that a run needs. */
  failedOf({ archives }: Pick<Manifest, 'archives'>): Verification[] {
    if (this.#files.size === 0) return [];
    return archives.flatMap((archive) => this.of(archive) ?? []).filter(({ problem }) => problem !== undefined);
  }

  /** Whether any file failed. */
  get areFailed(): boolean {
    return [...this.#files.values()].some(({ problem }) => problem !== undefined);
  }

  /** Why a file failed. @param sha256 as in the manifests; not needed for a file in the run's own folder */
  problemOf(path: string, sha256?: string): string | undefined {
    const known = this.#files.get(path);
    return sha256 === undefined || known?.sha256 === sha256 ? known?.problem : undefined;
  }

  note({ path, sha256 }: StoredFile, at: number, problem?: string): void {
    this.#files.set(path, { path, sha256, at, ...(problem !== undefined && { problem: problem.slice(0, longestProblem) }) });
  }

  /** The newest verifications of files that are still needed. */
  files(isNeeded: (path: string) => boolean): Verification[] {
    const known = [...this.#files.values()].filter(({ path }) => isNeeded(path));
    return known.sort((a, b) => b.at - a.at).slice(0, mostFiles);
  }
}

const textToSeal = (files: readonly Verification[]): string => `verified\n${JSON.stringify(files)}`;

/** The verifications of a record; none when the file is missing or garbled.
 *  @param sealer of the appliance whose proofs are believed; without it, only failures are returned
 *  @throws PluginError about the target */
export async function readVerifications(target: Target, record: string, signal: AbortSignal, sealer?: Sealer): Promise<Verifications> {
  const path = `${record}/${verifiedName}`;
  try {
    const there = await target.stat(path);
    if (there === undefined || there.folder || there.size > mostBytes) return new Verifications();
    const written = parseOwn('verified', parseBoundedJson(await wholeFile(target, path, there.size, signal), path));
    const isBelieved = sealer !== undefined && isMacOf(textToSeal(written.files), written.mac, sealer);
    return new Verifications(isBelieved ? written.files : written.files.filter(({ problem }) => problem !== undefined));
  } catch (error) {
    const isGarbled = error instanceof ValidationError || (error instanceof PluginError && error.code === 'damaged');
    if (isGarbled) return new Verifications();
    throw error;
  }
}

/** @param files from Verifications.files @throws PluginError as Target.put */
export async function writeVerifications(
  target: Target,
  record: string,
  { files, sealer }: { readonly files: readonly Verification[]; readonly sealer: Sealer },
  signal: AbortSignal,
): Promise<void> {
  const text = JSON.stringify({ format: 1, files, mac: sealer.mac(textToSeal(files)) });
  await target.put(`${record}/${verifiedName}`, Readable.from([Buffer.from(text)]), { signal, replace: true });
}

async function readOnce(target: Target, record: string, file: StoredFile, signal: AbortSignal): Promise<string | undefined> {
  const path = `${record}/${file.path}`;
  const read = async () => {
    const meter = new Meter();
    await pipeline(await target.get(path, { signal }), meter.resume(), { signal });
    checkStored(meter, file);
  };
  try {
    await unlessStopped(signal, () => asDamage(path, perhapsOfFile, read));
    return undefined;
  } catch (error) {
    if (error instanceof PluginError && error.code === 'damaged') return error.message;
    throw error;
  }
}

/** Reads a file of the record back, and a second time if it is damaged: the connection may have been at fault.
 *  @returns what is wrong with the file; undefined when it is undamaged
 *  @throws PluginError about the target, aborted */
export async function readBack(target: Target, record: string, file: StoredFile, signal: AbortSignal): Promise<string | undefined> {
  return (await readOnce(target, record, file, signal)) && (await readOnce(target, record, file, signal));
}
