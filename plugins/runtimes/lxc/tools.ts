import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ContainerState, PluginError } from '../../../core/contract/index.js';
import { type ChildResult, childResult } from '../../shared/primitives/child.js';

const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$/;

/** Whether LXC and this plugin accept it as a container's name. Such a name never looks like an option. */
export function isName(name: string): boolean {
  return namePattern.test(name);
}

const stopSeconds = 30;
const loadSeconds = 10;
const resumeTries = 5;
/** Milliseconds before an lxc-freeze that has not ended is killed and started again; doubled each time, for slow machines. */
const freezeMs = 25;
const freezeTries = 8;
/** Milliseconds: an init that ends earlier after its start means that the container does not work. */
const settleMilliseconds = 250;

/** The lxc-* tools for the containers of one path. */
export class Tools {
  /** @param workFolder for temporary files */
  constructor(
    readonly path: string,
    readonly workFolder: string,
  ) {}

  /** The container's folder. @throws PluginError invalid */
  folder(name: string): string {
    if (!isName(name)) throw new PluginError('invalid', `${JSON.stringify(name)} is no container name`);
    return join(this.path, name);
  }

  /** The container's configuration verbatim. @throws PluginError not_found, unavailable (the path itself is missing) */
  async config(name: string): Promise<string> {
    const file = join(this.folder(name), 'config');
    try {
      return await readFile(file, 'utf8');
    } catch (cause) {
      await stat(this.path).catch(() => {
        const message = `the LXC path ${this.path} cannot be read; mount it or correct lxc_path`;
        throw new PluginError('unavailable', message, { cause, retryable: true });
      });
      throw new PluginError('not_found', `there is no container ${name} in ${this.path}`, { cause });
    }
  }

  /** Why LXC cannot load the container's configuration; undefined when it can. LXC only reads it and starts nothing. */
  async loadProblem(name: string): Promise<string | undefined> {
    return this.#loadProblem(this.path, name);
  }

  /** As loadProblem, for a configuration of no container yet. Log lines are removed, because loading opens the log file. */
  async textProblem(text: string): Promise<string | undefined> {
    const folder = await mkdtemp(join(this.workFolder, 'config-'));
    try {
      await mkdir(join(folder, 'new'));
      await writeFile(join(folder, 'new', 'config'), text.replace(/^\s*lxc\.(log|console)\..*$/gm, ''));
      return await this.#loadProblem(folder, 'new');
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  async #loadProblem(path: string, name: string): Promise<string | undefined> {
    const folder = await mkdtemp(join(this.workFolder, 'load-'));
    const limit = AbortSignal.timeout(loadSeconds * 1000); // an include may be a pipe without a writer
    try {
      const args = ['-P', path, '-n', name, '-o', join(folder, 'log'), '-l', 'ERROR', '-c', 'lxc.uts.name'];
      const { code, stderr } = await childResult('lxc-info', args, { cwd: '/', signal: limit });
      if (code === 0) return undefined;
      // Show only the configuration's own line: the text of an included file may be a secret of this machine.
      const [, line] = /Failed to parse config file "[^"]*\/config" at line "(.*)"/.exec(stderr) ?? [];
      return line === undefined ? 'it cannot be read' : `it refuses this line: ${line}`;
    } catch (error) {
      if (limit.aborted) return `it was still being read after ${loadSeconds} s`;
      throw error;
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  /** @throws PluginError unavailable */
  async version(): Promise<string> {
    const { code, stdout } = await childResult('lxc-info', ['--version'], { cwd: '/' });
    if (code !== 0) throw new PluginError('unavailable', 'lxc-info is not installed on this appliance');
    return stdout.trim();
  }

  async state(name: string): Promise<ContainerState> {
    const word = await this.#word(name);
    if (word === 'STOPPED') return 'stopped';
    // THAWED lasts milliseconds; any state but STOPPED keeps the container's folders in use
    return word === 'FROZEN' || word === 'FREEZING' ? 'frozen' : 'running';
  }

  /** The state in LXC's own word. */
  async #word(name: string): Promise<string> {
    const { code, stdout, stderr } = await this.#run('lxc-info', name, ['-sH']);
    if (code !== 0) throw new PluginError('not_found', `lxc-info does not know ${name}: ${stderr.trim()}`);
    return stdout.trim();
  }

  /** Process id of the container's init on the host; undefined when it is stopped. */
  async init(name: string): Promise<number | undefined> {
    const pid = Number((await this.#run('lxc-info', name, ['-pH'])).stdout.trim());
    return Number.isInteger(pid) && pid > 0 ? pid : undefined;
  }

  async start(name: string): Promise<void> {
    await this.#must('lxc-start', name, ['-d']);
    await sleep(settleMilliseconds);
    if ((await this.state(name)) === 'stopped') throw new PluginError('failed', `${name} stopped right after its start`);
  }

  /** Stops it: by signal, and by force after the time limit. Does nothing when it is stopped. */
  async stop(name: string): Promise<void> {
    await this.unfreeze(name); // a frozen init receives no signal
    if ((await this.state(name)) === 'stopped') return;
    await this.#run('lxc-stop', name, ['-t', String(stopSeconds)]);
    if ((await this.state(name)) === 'stopped') return;
    await this.#run('lxc-stop', name, ['-k']);
    if ((await this.state(name)) !== 'stopped') throw new PluginError('failed', `${name} could not be stopped`);
  }

  /** On cgroup v1, lxc-freeze checks the state at once and then once a second, which would freeze the container a second too long.
   *  Starting it again makes it check at once. */
  async freeze(name: string): Promise<void> {
    for (let tried = 0; tried < freezeTries; tried++) {
      const limitMs = AbortSignal.timeout(freezeMs * 2 ** tried);
      try {
        return await this.#must('lxc-freeze', name, [], limitMs);
      } catch (error) {
        if (!limitMs.aborted) throw error;
      }
    }
    await this.#must('lxc-freeze', name, []);
  }

  /** Thaws with retries: a container must never stay frozen. Does nothing when it is not frozen. */
  async unfreeze(name: string): Promise<void> {
    let said = '';
    for (let tried = 0; tried < resumeTries; tried++) {
      if (tried > 1) await sleep(100 * 2 ** tried);
      try {
        const word = await this.#word(name);
        if (word !== 'FROZEN' && word !== 'FREEZING') return;
        // A killed lxc-freeze leaves FREEZING; lxc-unfreeze takes that for running, so finish the freeze first.
        if (word === 'FREEZING') await this.freeze(name);
        said = (await this.#run('lxc-unfreeze', name, [])).stderr.trim();
      } catch (error) {
        if (error instanceof PluginError && error.code === 'not_found') throw error;
        said = String(error); // the tool was killed or did not start: try again
      }
    }
    if ((await this.state(name)) === 'frozen') throw new PluginError('failed', `${name} stays frozen: ${said}`, { retryable: true });
  }

  /** Brings a stopped or running container into a state. */
  async reach(name: string, wanted: ContainerState): Promise<void> {
    if (wanted === 'stopped') return this.stop(name);
    if ((await this.state(name)) === 'stopped') await this.start(name);
    if (wanted === 'frozen') await this.freeze(name);
  }

  async #must(tool: string, name: string, args: readonly string[], signal?: AbortSignal): Promise<void> {
    const { code, stdout, stderr } = await this.#run(tool, name, args, signal);
    if (code !== 0) throw new PluginError('failed', `${tool} of ${name} ended with ${code}: ${stderr.trim() || stdout.trim()}`);
  }

  async #run(tool: string, name: string, args: readonly string[], signal?: AbortSignal): Promise<ChildResult> {
    this.folder(name);
    // cwd: lxc-start leaves a monitor running, which must not keep a folder of this service in use
    const result = await childResult(tool, ['-P', this.path, '-n', name, ...args], { cwd: '/', ...(signal && { signal }) });
    if (result.code === 127) throw new PluginError('unavailable', `${tool} is not installed on this appliance`);
    return result;
  }
}
