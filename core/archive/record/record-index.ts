/** The index of a record, `backup-metadata`: summaries of its complete runs, which save reading every manifest. Anybody may have
 *  written the file, so it counts only with the appliance's own HMAC, which is checked before parsing. open-record.ts also drops
 *  an index that the record contradicts. */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { type Description, PluginError, type Target } from '../../contract/index.js';
import { parseOwn, type Shape, ValidationError } from '../../schemas.js';
import { metadataName } from './layout.js';
import { wholeFile } from './record.js';
import { type RunSummary, type Said, type Summaries, withoutLeftOut } from './run-summary.js';
import { isMacOf, type Sealer } from './seal.js';

type Written = Shape<'backup-metadata'>;
type WrittenRun = Written['runs'][number];

/** Some 20,000 runs; reading takes ten times as much memory. Runs that do not fit are read from their manifests. */
const mostBytes = 8 << 20;
/** Limit for texts that differ between runs; beyond it an index only counts what a run left out. */
const mostSaid = 2 << 20;

const macText = (record: string, body: Uint8Array | string): string =>
  `backup-metadata\n${record}\n${createHash('sha256').update(body).digest('hex')}`;
/** The end of the file, after the body: its HMAC and the closing brace. */
const ending = (mac: string): string => `,"mac":"${mac}"}\n`;
const endingBytes = ending('0'.repeat(64)).length;

/** The parsed file, if this appliance has written it. */
function openIfOwn(bytes: Buffer, record: string, sealer: Sealer): unknown {
  const body = bytes.subarray(0, Math.max(0, bytes.length - endingBytes));
  const told = bytes.toString('latin1', body.length);
  const mac = told.slice(',"mac":"'.length, -'"}\n'.length);
  if (told !== ending(mac) || !isMacOf(macText(record, body), mac, sealer)) return undefined;
  return JSON.parse(bytes.toString('utf8'));
}

function summariesIn({ files, said: written, runs }: Written, kept: Summaries): RunSummary[] {
  const said = written.map((one) => kept.saidOnce(one));
  return runs.flatMap(({ stored_bytes, said: saidAt, files: filesAt, ...run }) => {
    const own = said[saidAt];
    const needed = kept.filesOf(filesAt.flatMap((at) => files[at] ?? []));
    return own && needed?.length === filesAt.length ? [{ ...run, own_bytes: stored_bytes, said: own, files: needed }] : [];
  });
}

/** The index, by run name; undefined when there is none from this appliance.
 *  @throws PluginError about the target as a whole */
export async function readIndex(
  target: Target,
  record: string,
  { sealer, signal, summaries }: { readonly sealer: Sealer; readonly signal: AbortSignal; readonly summaries: Summaries },
): Promise<Map<string, RunSummary> | undefined> {
  const path = `${record}/${metadataName}`;
  try {
    const there = await target.stat(path);
    if (there === undefined || there.folder || there.size > mostBytes) return undefined;
    const value = openIfOwn(await wholeFile(target, path, there.size, signal), record, sealer);
    if (value === undefined) return undefined;
    return new Map(summariesIn(parseOwn('backup-metadata', value), summaries).map((run) => [run.run, run]));
  } catch (error) {
    const ofFile =
      error instanceof PluginError && ['damaged', 'denied', 'invalid', 'not_found', 'unsupported', 'failed', 'io'].includes(error.code);
    if (ofFile || error instanceof ValidationError) return undefined; // as if there were none: the next run writes it again
    throw error;
  }
}

/** Numbers distinct values, and counts their bytes as JSON. */
class Table<T> {
  readonly list: T[] = [];
  readonly #at = new Map<T, number>();
  bytes = 0;
  /** Bytes that these values would add. */
  cost(things: readonly T[]): number {
    return things.reduce((sum, one) => sum + (this.#at.has(one) ? 0 : Buffer.byteLength(JSON.stringify(one)) + 1), 0);
  }
  at(one: T): number {
    const known = this.#at.get(one);
    if (known !== undefined) return known;
    this.bytes += this.cost([one]);
    this.#at.set(one, this.list.length);
    return this.list.push(one) - 1;
  }
}

/** The newest runs that fit into `bytes`. */
class IndexBody {
  readonly #files = new Table<string>();
  readonly #said = new Table<Said>();
  readonly #cut = new Map<Said, Said>();
  readonly #runs: WrittenRun[] = [];
  #left: number;

  constructor(bytes: number) {
    this.#left = bytes;
  }

  add({ own_bytes, files, said, failed: _failed, ...run }: RunSummary): void {
    if (files === undefined || said.warnings_more !== undefined) return;
    const shown = this.#shorten(said);
    const cost = this.#files.cost(files) + this.#said.cost([shown]);
    const numbers = 8 * files.length + JSON.stringify({ ...run, own_bytes }).length + 64;
    if (cost + numbers > this.#left) return;
    this.#left -= cost + numbers;
    this.#runs.push({ ...run, stored_bytes: own_bytes, said: this.#said.at(shown), files: files.map((file) => this.#files.at(file)) });
  }

  /** The form for the index: beyond a limit, only the count of what a run left out. */
  #shorten(said: Said): Said {
    if (this.#said.bytes + this.#said.cost([said]) <= mostSaid) return said;
    const cut = this.#cut.get(said) ?? withoutLeftOut(said);
    this.#cut.set(said, cut);
    return cut;
  }

  get value(): Pick<Written, 'files' | 'said' | 'runs'> {
    return { runs: this.#runs, files: this.#files.list, said: this.#said.list };
  }
}

export interface IndexContents {
  readonly job: Written['job'];
  readonly container: Description;
  /** Complete runs, newest first. */
  readonly runs: readonly RunSummary[];
}

/** Writes the index of a record. @throws PluginError as Target.put */
export async function writeIndex(
  target: Target,
  record: string,
  { job, container, runs }: IndexContents,
  { sealer, signal }: { readonly sealer: Sealer; readonly signal: AbortSignal },
): Promise<void> {
  const head = { format: 2, job, container };
  const body = new IndexBody(mostBytes - Buffer.byteLength(JSON.stringify(head)) - 1024);
  for (const run of runs) body.add(run);
  const text = JSON.stringify({ ...head, ...body.value }).slice(0, -1);
  const file = Buffer.from(text + ending(sealer.mac(macText(record, text))));
  await target.put(`${record}/${metadataName}`, Readable.from([file]), { signal, replace: true });
}
