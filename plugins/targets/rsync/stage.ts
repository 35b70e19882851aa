import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isAlive, ownerOfThisThread } from '../../shared/owner.js';
import { stageError } from './staging.js';

/** Its process, its thread (earlier versions named the process alone) and when that began. */
const stagePattern = /^stage-(\d+)-(?:(\d+)-)?(\d+)-[0-9a-f]{16}$/;

/** Where pieces wait on this appliance while they are sent or read: a folder of one open target, in the plugin's own. */
export class Stage implements AsyncDisposable {
  #folders = 0;
  private constructor(readonly path: string) {}

  /** Makes it, and removes those of threads that are no more. */
  static async open(stateFolder: string): Promise<Stage> {
    await mkdir(stateFolder, { recursive: true, mode: 0o700 });
    for (const name of await readdir(stateFolder)) {
      const [, pid, thread = pid, started = ''] = stagePattern.exec(name) ?? [];
      if (pid === undefined || isAlive({ task: `${pid}/task/${thread}`, started })) continue;
      await rm(join(stateFolder, name), { recursive: true, force: true });
    }
    const { task, started } = ownerOfThisThread();
    const path = join(stateFolder, `stage-${task.replace('/task/', '-')}-${started}-${randomBytes(8).toString('hex')}`);
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
