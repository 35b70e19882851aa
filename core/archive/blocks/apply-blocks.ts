/** Extracts the blocks of a level into a tree that has the level before: each run of blocks at its offset, then size and attributes.
 *  At the end checkBlocks reads files back that several levels have brought. */
import { constants } from 'node:fs';
import { type FileHandle, mkdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path/posix';
import { anySignal, PluginError } from '../../contract/index.js';
import { childExit, errorsOf } from '../../primitives/child.js';
import { hasCode } from '../../primitives/guards.js';
import { type ConfinedTree, confineTar, restoredAttributes } from '../level/sandbox.js';
import { clearAttributes } from './files/attributes.js';
import { isInside, openBeneath, removeBeneath } from './files/beneath.js';
import { findHoles, type Hole, parseHoles, punchHoles, subtractHoles } from './files/holes.js';
import { applyStandIns, type StandIn, standInFolder } from './files/stand-ins.js';
import { dataFolder, lastParts } from './pack-blocks.js';
import { type Member, readTar } from './tar/read-tar.js';

/** A file that levels have brought: what its blocks must be now. */
interface AppliedFile {
  readonly digest: string;
  readonly blockBytes: number;
  readonly isOfSeveral: boolean;
}
/** By path, its bytes as latin-1. */
export type AppliedFiles = Map<string, AppliedFile>;

export interface ApplyPlan {
  readonly tree: ConfinedTree;
  readonly top: FileHandle;
  /** Files that the levels before have brought; gets those of this level. */
  readonly files: AppliedFiles;
  /** Path for a folder of stand-ins. */
  readonly workFolder: string;
  /** Name of the archive in messages. */
  readonly name: string;
  readonly signal: AbortSignal;
}

/** Longest list of holes, and longest sum. */
const mostHolesText = 8 << 20;
const mostSum = 100;

const zeros = Buffer.alloc(1 << 20);

const damaged = (name: string, why: string): PluginError =>
  new PluginError('damaged', `${name} is no archive of blocks: ${why}; choose another run`);

/** @param archive the tar's bytes @throws PluginError damaged, no_space, failed, aborted */
export async function applyBlocks(plan: ApplyPlan, archive: AsyncIterable<Buffer>): Promise<void> {
  const writer = new BlockWriter(plan);
  await mkdir(join(plan.workFolder, standInFolder), { recursive: true, mode: 0o700 });
  try {
    const standIns = new StandInExtractor(plan);
    try {
      for await (const one of readTar(archive, plan.name))
        await (one.path.startsWith(`${dataFolder}/`) ? writer.write(one) : standIns.write(one));
      await standIns.end();
    } finally {
      await standIns.stop();
      await writer.close();
    }
    const files: StandIn[] = [...writer.written].map((path) => ({ path, size: 0 }));
    if (files.length > 0) await applyStandIns(plan.tree, plan.workFolder, files, plan.signal);
  } finally {
    await rm(plan.workFolder, { recursive: true, force: true });
  }
}

/** Writes runs of blocks. The members of a file follow each other, so that one file is open at a time. */
class BlockWriter {
  /** Paths of the files whose blocks are whole. */
  readonly written = new Set<string>();
  #path: string | undefined;
  #file: FileHandle | undefined;

  constructor(private readonly plan: ApplyPlan) {}

  async write({ path: whole, content }: Member): Promise<void> {
    const path = dirname(whole.slice(dataFolder.length + 1));
    const last = whole.slice(whole.lastIndexOf('/') + 1);
    if (!isInside(path)) throw damaged(this.plan.name, `${JSON.stringify(whole)} leads out of it`);
    if (last === lastParts.gone) return void this.plan.files.delete(path);
    const file = await this.#open(path, last === lastParts.begins);
    if (last === lastParts.sum) return this.#sum(path, file, content);
    if (last === lastParts.begins) return void this.plan.files.delete(path);
    if (last === lastParts.holes) return this.#punch(file, content);
    if (!/^\d{16}$/.test(last)) throw damaged(this.plan.name, `${JSON.stringify(whole)} has no offset`);
    await this.#blocks(file, Number(last), content);
  }

  async #blocks(file: FileHandle, offset: number, content: AsyncIterable<Buffer>): Promise<void> {
    let at = offset;
    for await (const bytes of content) {
      for (let done = 0; done < bytes.length; ) done += await this.#write(file, bytes.subarray(done), at + done);
      at += bytes.length;
    }
  }

  async #write(file: FileHandle, bytes: Buffer, at: number): Promise<number> {
    try {
      return (await file.write(bytes, 0, bytes.length, at)).bytesWritten;
    } catch (cause) {
      const what = `${this.plan.name} could not be extracted`;
      if (!hasCode(cause, 'ENOSPC', 'EDQUOT', 'EFBIG')) throw new PluginError('failed', `${what}: ${cause}`, { cause });
      throw new PluginError('no_space', `${what}: free some space where containers and volumes lie`, { cause });
    }
  }

  /** Behind the file's end there are no holes yet: its size comes first. */
  async #punch(file: FileHandle, content: AsyncIterable<Buffer>): Promise<void> {
    const holes = parseHoles(await this.#text(content, mostHolesText));
    await file.truncate(Math.max(holes.at(-1)?.end ?? 0, (await file.stat()).size));
    await this.#fill(file, holes);
    await punchHoles(file, holes, this.plan.signal);
  }

  /** Writes zeros into holes that are none any more: such a block does not differ, so that no level brings it. */
  async #fill(file: FileHandle, holes: readonly Hole[]): Promise<void> {
    const present = (await findHoles(file, this.plan.signal)) ?? [];
    for (const { start, end } of subtractHoles(present, holes))
      for (let at = start; at < end; ) at += await this.#write(file, zeros.subarray(0, end - at), at);
  }

  async #sum(path: string, file: FileHandle, content: AsyncIterable<Buffer>): Promise<void> {
    const [, digest, blockBytes] = /^([0-9a-f]{32}) (\d{6,15})\n$/.exec(await this.#text(content, mostSum)) ?? [];
    if (digest === undefined || blockBytes === undefined) throw damaged(this.plan.name, `the sum of ${JSON.stringify(path)} is none`);
    await clearAttributes(file, this.plan.signal);
    this.plan.files.set(path, { digest, blockBytes: Number(blockBytes), isOfSeveral: this.plan.files.has(path) });
    this.written.add(path);
  }

  async #text(content: AsyncIterable<Buffer>, most: number): Promise<string> {
    let text = '';
    for await (const bytes of content) {
      text += bytes.toString('latin1');
      if (text.length > most) throw damaged(this.plan.name, `a member is longer than ${most} bytes`);
    }
    return text;
  }

  async #open(path: string, begins: boolean): Promise<FileHandle> {
    if (this.#file !== undefined && this.#path === path && !begins) return this.#file;
    await this.close();
    const open = async () => {
      if (begins) await removeBeneath(this.plan.top, path);
      return openBeneath(this.plan.top, path, constants.O_RDWR | (begins ? constants.O_CREAT | constants.O_EXCL : 0));
    };
    const file = await open().catch((cause: unknown) => {
      throw new PluginError(
        'damaged',
        `${this.plan.name} has blocks of ${JSON.stringify(path)}, which the level before lacks; choose another run`,
        { cause },
      );
    });
    if (!(await file.stat()).isFile()) {
      await file.close();
      throw damaged(this.plan.name, `${JSON.stringify(path)} is no file`);
    }
    [this.#path, this.#file] = [path, file];
    return file;
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }
}

/** Passes the members that GNU tar wrote to GNU tar. */
class StandInExtractor {
  readonly #child;
  readonly #exit: Promise<number>;
  readonly #stop = new AbortController();
  readonly #said: () => string;

  constructor(private readonly plan: ApplyPlan) {
    const own: ConfinedTree = { kind: 'folder', path: plan.workFolder, access: 'write' };
    this.#child = confineTar(own, ['--extract', '--file=-', ...restoredAttributes], ['pipe', 'ignore', 'pipe']);
    this.#said = errorsOf(this.#child);
    this.#child.stdin?.on('error', () => undefined); // EPIPE; the exit code decides
    this.#exit = childExit(this.#child, 'tar', anySignal(plan.signal, this.#stop.signal));
    this.#exit.catch(() => undefined); // `end` gets the error; after `stop` nobody needs it
  }

  async write({ raw }: Member): Promise<void> {
    for await (const bytes of raw) await this.#give(bytes);
  }

  async end(): Promise<void> {
    await this.#give(Buffer.alloc(1024)); // the end of an archive
    this.#child.stdin?.end();
    if ((await this.#exit) !== 0)
      throw new PluginError('failed', `the attributes of ${this.plan.name} could not be extracted: ${this.#said().trim()}`);
  }

  /** Kills tar if it has not ended. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#exit.catch(() => undefined);
  }

  async #give(bytes: Buffer): Promise<void> {
    const { stdin } = this.#child;
    if (!stdin || stdin.destroyed || stdin.write(bytes)) return;
    await Promise.race([new Promise((resolve) => stdin.once('drain', resolve)), this.#exit]);
  }
}
