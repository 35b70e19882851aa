/** A runtime plugin whose containers have an image of any size. It generates the bytes for a backup, checks them in a restore, and stores
 *  none. Its compiled file is copied into a plugin's folder, so it imports only types. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { Description, Draft, PluginContext, PluginError, RestorePlan, Runtime, RuntimePlugin } from '../../../core/contract/index.js';

const chunkBytes = 256 << 10;
/** Different chunks. Together they exceed zstd's window of 2 MiB, and each holds 1 KiB that no other chunk has. */
const kinds = 13;

/** Incompressible, and the same in every process. */
function unique(kind: number): Buffer {
  let state = kind + 1;
  const bytes = Array.from({ length: 1024 }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  });
  return Buffer.from(bytes);
}

const chunks: readonly Buffer[] = Array.from({ length: kinds }, (_, kind) => Buffer.alloc(chunkBytes, unique(kind)));

function generated(bytes: number): Readable {
  let given = 0;
  return new Readable({
    highWaterMark: chunkBytes,
    read() {
      const chunk = chunks[(given / chunkBytes) % kinds];
      if (given >= bytes || chunk === undefined) return void this.push(null);
      given += chunkBytes;
      this.push(chunk);
    },
  });
}

/** Offset of the first byte that differs from the generated ones; -1 when none differs. */
async function difference(source: Readable, bytes: number): Promise<number> {
  let at = 0;
  for await (const part of source) {
    const got = Buffer.from(part.buffer, part.byteOffset, part.length);
    for (let from = 0; from < got.length; ) {
      const expected = chunks[Math.floor(at / chunkBytes) % kinds]?.subarray(at % chunkBytes) ?? got;
      const length = Math.min(expected.length, got.length - from);
      if (got.compare(expected, 0, length, from, from + length) !== 0) return at;
      from += length;
      at += length;
    }
  }
  return at === bytes ? -1 : at;
}

const name = /^generated-(\d+)$/;

/** The size of an image in MiB, from its container's name. */
const bytesOf = (id: string): number => Number(name.exec(id)?.[1] ?? 0) * 2 ** 20;

class GeneratedDraft implements Draft {
  readonly needsImage = true;
  constructor(
    private readonly plan: RestorePlan,
    private readonly folder: string,
    private readonly failure: typeof PluginError,
  ) {}

  async loadImage(source: Readable): Promise<void> {
    const at = await difference(source, bytesOf(this.plan.description.name));
    if (at !== -1) throw new this.failure('damaged', `the image is not what was generated, at byte ${at}`);
  }
  async folders(): Promise<ReadonlyMap<string, string>> {
    await mkdir(this.folder, { recursive: true });
    return new Map([['rootfs', this.folder]]);
  }
  async commit(): Promise<{ conflicts: []; places: []; warnings: [] }> {
    return { conflicts: [], places: [], warnings: [] };
  }
  discard(): Promise<void> {
    return rm(this.folder, { recursive: true, force: true });
  }
}

class GeneratedRuntime implements Runtime {
  readonly supports = { pause: false, images: true };
  constructor(
    private readonly context: PluginContext,
    private readonly failure: typeof PluginError,
  ) {}

  async version(): Promise<string> {
    return '1';
  }
  async *list(): AsyncIterable<never> {} // every container with a right name exists
  async describe(id: string): Promise<Description> {
    if (!name.test(id)) throw new this.failure('not_found', `there is no container ${id}`);
    const none = { network: [], resource: {}, volume: [], left_out: [] };
    const native = { format: 'generated', text: '' };
    return { ...none, native, arch: 'none', autostart: false, image: id, name: id, type: 'generated', state: 'stopped' };
  }
  async sources(id: string) {
    const path = join(this.context.stateFolder, id);
    await mkdir(path, { recursive: true });
    await writeFile(join(path, 'only-file'), id);
    return [{ name: 'rootfs', origin: 'engine', kind: 'folder', path, excludes: [] } as const];
  }
  async image(id: string) {
    return { digest: id, open: async () => generated(bytesOf(id)) };
  }
  async pause(): Promise<AsyncDisposable> {
    throw new this.failure('unsupported', 'nothing runs');
  }
  async draft(plan: RestorePlan): Promise<Draft> {
    return new GeneratedDraft(plan, join(this.context.stateFolder, plan.container), this.failure);
  }
  async preview(): Promise<{ conflicts: []; grants: []; places: []; warnings: [] }> {
    return { conflicts: [], grants: [], places: [], warnings: [] };
  }
  async resume(): Promise<void> {}
  async undo(): Promise<void> {}
  async dropUndo(): Promise<void> {}
  async recover(): Promise<void> {}
  async [Symbol.asyncDispose](): Promise<void> {}
}

/** Makes the default export for the plugin's index.js, which passes the contract's error class. */
export function generatedPlugin(failure: typeof PluginError): RuntimePlugin {
  return { open: async (context) => new GeneratedRuntime(context, failure) };
}
