/** Packs the blocks of a level into a plain tar. For each file that differs, in this order:
 *  - `data/<path>/new`, empty, if the file's content starts anew, as zeros;
 *  - `data/<path>/<offset>`, a run of blocks that differ, from that byte on;
 *  - `data/<path>/holes`, for a file that is sparse or was: a line for each hole, its first byte and the byte after its last;
 *  - `data/<path>/sum`, the hash of all hashes of its blocks, in hex, and the size of its blocks;
 *  - or only `data/<path>/gone`, if the level before has blocks of the file and this one has none.
 *  Then `meta/<path>`: a stand-in for each of them, with its size and attributes, as GNU tar stores it. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { PluginError } from '../../contract/index.js';
import { childExit, errorsOf } from '../../primitives/child.js';
import { type ConfinedTree, confineTar } from '../level/sandbox.js';
import { type BlockEvent, type Comparison, compareBlocks, type Moved } from './compare-blocks.js';
import { statFiles } from './files/big-files.js';
import { holesText } from './files/holes.js';
import { makeStandIns, type StandIn, standInFolder } from './files/stand-ins.js';
import { endOfTar, member } from './tar/write-tar.js';

export const dataFolder = 'data';
/** Last parts of a member's path, instead of an offset. */
export const lastParts = { begins: 'new', holes: 'holes', sum: 'sum', gone: 'gone' } as const;

export interface BlockPlan extends Comparison {
  readonly tree: ConfinedTree;
  /** Path for a folder of stand-ins. */
  readonly workFolder: string;
  /** Whether files that changed since the reference are counted as moved; otherwise only those that changed while they were read. */
  readonly looks: boolean;
}

export interface BlockReport {
  /** Bytes of blocks, before compression. */
  bytes: number;
  /** Files that are in the archive. */
  files: number;
  /** Paths of files that changed, and bytes of these files. */
  readonly moved: string[];
  movedBytes: number;
}

export const emptyReport = (): BlockReport => ({ bytes: 0, files: 0, moved: [], movedBytes: 0 });

const offsetName = (offset: number): string => String(offset).padStart(16, '0');

/** Gives the archive's bytes; nothing at all when no file differs. Fills the report and the plan's table.
 *  @param onSettled called when nothing of the source is needed any more; then the report's moved files are known */
export async function* packBlocks(plan: BlockPlan, report: BlockReport, onSettled: () => void = () => undefined): AsyncGenerator<Buffer> {
  const packed: StandIn[] = [];
  let standIns: readonly StandIn[] | undefined;
  let isEmpty = true;
  try {
    for await (const event of compareBlocks(plan)) {
      if (event.kind !== 'end' || standIns === undefined) note(event, plan, report); // clones were noted when they were made
      if (event.kind === 'end') packed.push(event);
      if (event.kind === 'settled') {
        standIns = [...packed, ...event.cloned.map(({ file }) => file)];
        await copyAttributes(plan, standIns, report);
        onSettled();
        continue;
      }
      yield* member(`${dataFolder}/${event.path}/${lastPartOf(event)}`, contentOf(event));
      isEmpty = false;
    }
    report.files = packed.length;
    if (standIns && standIns.length > 0) yield* packStandIns(plan);
    else if (!isEmpty) yield endOfTar; // tar has written none
  } finally {
    await rm(plan.workFolder, { recursive: true, force: true });
  }
}

function note(event: BlockEvent, plan: BlockPlan, report: BlockReport): void {
  const add = (path: string, size: number, moved: Moved) => {
    if (!isMoved(moved, plan)) return;
    report.moved.push(path);
    report.movedBytes += size;
  };
  if (event.kind === 'blocks') report.bytes += event.bytes.length;
  else if (event.kind === 'settled') for (const { file, moved } of event.cloned) add(file.path, file.size, moved);
  else if (event.kind === 'gone') add(event.path, 0, event.moved);
  else if (event.kind === 'end') add(event.path, event.size, event.moved);
}

/** Copies the attributes of the files to stand-ins. A file that vanished since it was read has moved. */
async function copyAttributes({ tree, top, workFolder, signal }: BlockPlan, files: readonly StandIn[], report: BlockReport): Promise<void> {
  if (files.length === 0) return;
  await mkdir(join(workFolder, standInFolder), { recursive: true, mode: 0o700 });
  await makeStandIns(tree, workFolder, files, signal);
  const paths = files.map(({ path }) => path);
  const there = new Set((await statFiles(top, paths)).map(({ path }) => path));
  report.moved.push(...paths.filter((path) => !there.has(path) && !report.moved.includes(path)));
}

const isMoved = (moved: Moved, { looks }: BlockPlan): boolean => moved === 'reading' || (looks && moved === 'before');

type StoredEvent = Exclude<BlockEvent, { kind: 'settled' }>;

function lastPartOf(event: StoredEvent): string {
  if (event.kind === 'blocks') return offsetName(event.offset);
  return { new: lastParts.begins, holes: lastParts.holes, end: lastParts.sum, gone: lastParts.gone }[event.kind];
}

function contentOf(event: StoredEvent): Buffer {
  if (event.kind === 'blocks') return Buffer.from(event.bytes); // a copy: the buffer is read into again
  if (event.kind === 'holes') return Buffer.from(holesText(event.holes));
  return Buffer.from(event.kind === 'end' ? `${event.digest} ${event.block_bytes}\n` : '');
}

async function* packStandIns({ workFolder, signal }: BlockPlan): AsyncGenerator<Buffer> {
  const args = ['--create', '--file=-', '--format=posix', '--sparse', '--xattrs', '--xattrs-include=*', '--acls', '--numeric-owner'];
  const own: ConfinedTree = { kind: 'folder', path: workFolder, access: 'read' };
  const child = confineTar(own, [...args, '--', standInFolder], ['ignore', 'pipe', 'pipe']);
  const said = errorsOf(child);
  const exit = childExit(child, 'tar', signal);
  if (child.stdout) for await (const chunk of child.stdout) yield chunk;
  if ((await exit) !== 0) throw new PluginError('failed', `the attributes of big files could not be packed: ${said().trim()}`);
}
