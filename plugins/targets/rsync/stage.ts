import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { stageError } from './staging.js';

/** Where pieces wait on this appliance while they are sent or read: a folder of one open target, in the plugin's own. */
export class Stage implements AsyncDisposable {
  #folders = 0;
  private constructor(readonly path: string) {}

  /** Makes it, and removes those of processes that are no more. */
  static async open(stateFolder: string): Promise<Stage> {
    await mkdir(stateFolder, { recursive: true, mode: 0o700 });
    for (const name of await readdir(stateFolder)) {
      const [, pid, started] = /^stage-(\d+)-(\d+)-[0-9a-f]{16}$/.exec(name) ?? [];
      if (pid === undefined || (await startOf(Number(pid))) === started) continue;
      await rm(join(stateFolder, name), { recursive: true, force: true });
    }
    const started = (await startOf(process.pid)) ?? '0';
    const path = join(stateFolder, `stage-${process.pid}-${started}-${randomBytes(8).toString('hex')}`);
    await mkdir(path, { mode: 0o700 });
    return new Stage(path);
  }

  /** A new empty folder in it; and in that the folders that `parts` name. @throws PluginError */
  async folder(parts: readonly string[] = []): Promise<StageFolder> {
    const path = join(this.path, `${++this.#folders}`);
    await mkdir([path, ...parts].join('/'), { recursive: true, mode: 0o700 }).catch((cause: unknown) =>
      Promise.reject(stageError(path, cause)),
    );
    return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }
}

export interface StageFolder extends AsyncDisposable {
  readonly path: string;
}

/** When a process started, in the kernel's ticks: a later one of the same number has another. Undefined when it is no more. */
async function startOf(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => undefined);
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
}
