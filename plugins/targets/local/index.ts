import { statfs } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import {
  anySignal,
  defaultNames,
  type Entry,
  type ListOptions,
  type PluginContext,
  PluginError,
  type Target,
  type TargetPlugin,
} from '../../../core/contract/index.js';
import { fileParts, newFileParts, refuseTop } from '../../shared/paths.js';
import { ioError, onShare } from './failure.js';
import { splitPath } from './folder.js';
import { type GetOptions, get } from './get.js';
import { hasMarker, isCaseSensitive, markerName, markShare } from './marker.js';
import { put } from './put.js';
import { list, remove, stat } from './tree.js';

export interface LocalOptions {
  readonly share: string;
  readonly root: string;
  readonly base?: string;
  /** Put the marker into the share: it is configured for the first time. */
  readonly mark?: boolean;
}

/** A folder of a share of this appliance. Every call first checks the share's marker: an unmounted share must neither fill the disk
 *  underneath nor look like a target without backups. */
class LocalTarget implements Target {
  readonly supports;
  /** The running check of the marker. Calls that come meanwhile share its answer. */
  #looking: Promise<void> | undefined;

  constructor(
    readonly context: PluginContext<LocalOptions>,
    readonly base: readonly string[],
    caseSensitive: boolean,
  ) {
    const names = { ...defaultNames, caseSensitive };
    this.supports = { range: true, freeSpace: true, atomicReplace: true, connections: 4, names } as const;
  }
  get #root(): string {
    return this.context.options.root;
  }
  /** The parts of a path below the share's root. */
  async #locate(path: string): Promise<readonly string[]> {
    const parts = splitPath(path);
    this.#looking ??= requireMounted(this.context.options).finally(() => {
      this.#looking = undefined;
    });
    await this.#looking;
    return [...this.base, ...parts];
  }
  #signal(signal: AbortSignal): AbortSignal {
    return anySignal(signal, this.context.signal);
  }
  async put(path: string, source: Readable, o: { signal: AbortSignal; replace?: boolean }): Promise<{ bytes: number }> {
    source.on('error', () => undefined); // it may fail while the marker is checked; the read reports it
    try {
      newFileParts(path, this.supports.names);
      return await put(this.#root, await this.#locate(path), source, { signal: this.#signal(o.signal), replace: o.replace ?? false });
    } catch (error) {
      source.destroy();
      throw onShare(error, this.context.options.share);
    }
  }
  async get(path: string, o: GetOptions): Promise<Readable> {
    fileParts(path);
    return get(this.#root, await this.#locate(path), { ...o, signal: this.#signal(o.signal) });
  }
  async stat(path: string): Promise<Entry | undefined> {
    const parts = await this.#locate(path);
    return path === '' ? { name: '', folder: true, size: 0 } : stat(this.#root, parts);
  }
  async *list(path: string, o: ListOptions = {}): AsyncGenerator<Entry> {
    yield* list(this.#root, await this.#locate(path), o);
  }
  async remove(path: string): Promise<void> {
    refuseTop(path);
    const parts = await this.#locate(path);
    await remove(this.#root, parts).catch((error: unknown) => {
      throw onShare(error, this.context.options.share);
    });
  }
  async space(): Promise<{ total: number; free: number }> {
    await requireMounted(this.context.options);
    return space(this.#root);
  }
  async [Symbol.asyncDispose](): Promise<void> {} // nothing stays open between calls
}

/** @throws PluginError unavailable */
async function requireMounted({ share, root }: LocalOptions): Promise<void> {
  if (await hasMarker(root)) return;
  const fix = 'mount it, or configure the share again if its folder is meant to be new';
  throw new PluginError('unavailable', `share ${share} is not mounted: its marker ${root}/${markerName} is missing; ${fix}`, {
    retryable: true,
  });
}

async function space(root: string): Promise<{ total: number; free: number }> {
  try {
    const { blocks, bavail, bsize } = await statfs(root);
    return { total: blocks * bsize, free: bavail * bsize };
  } catch (error) {
    throw ioError(error, root);
  }
}

const plugin: TargetPlugin<LocalOptions> = {
  async open(context) {
    const { mark, root } = context.options;
    const base = splitPath(context.options.base ?? '');
    if (mark) await markShare(root);
    await requireMounted(context.options);
    return new LocalTarget(context, base, await isCaseSensitive(root));
  },
};
export default plugin;
