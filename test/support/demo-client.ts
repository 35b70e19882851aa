import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { ApiClient } from './api-client.js';
import { serviceCommand } from './service-command.js';

export interface ServiceOptions {
  readonly stateFolder: string;
  readonly shares: Readonly<Record<string, string>>;
  readonly lxcPath?: string;
  readonly dockerSocket?: string;
  /** A built checkout, to start another version. */
  readonly checkout?: string;
  /** Further arguments of the command line. */
  readonly flags?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** Drops its log. Without it, the log goes to the suite's stderr. */
  readonly quiet?: boolean;
}

/** The service in a process of its own, and a client that is logged in as its first admin. */
export class DemoService extends ApiClient implements AsyncDisposable {
  private constructor(
    readonly child: ChildProcess,
    address: string,
  ) {
    super(address);
  }

  /** Starts it. If this class has made an admin in the state folder before, it logs in as that admin. */
  static async start(options: ServiceOptions): Promise<DemoService> {
    const shares = Object.entries(options.shares).flatMap(([name, folder]) => ['--share', `${name}=${folder}`]);
    const lxc = options.lxcPath === undefined ? [] : ['--lxc-path', options.lxcPath];
    const docker = options.dockerSocket === undefined ? [] : ['--docker-socket', options.dockerSocket];
    const flags = [
      'serve',
      '--state',
      options.stateFolder,
      '--listen',
      '127.0.0.1:0',
      ...shares,
      ...lxc,
      ...docker,
      ...(options.flags ?? []),
    ];
    const child = spawn(...serviceCommand(flags, options.checkout), {
      stdio: ['ignore', 'pipe', options.quiet ? 'ignore' : 'inherit'],
      env: { ...process.env, ...options.environment },
    });
    const service = new DemoService(child, await announcedAddress(child));
    try {
      const code = await readFile(join(options.stateFolder, 'setup-code'), 'utf8').catch(() => undefined);
      await service.logIn(code?.trim());
    } catch (error) {
      await service[Symbol.asyncDispose]();
      throw error;
    }
    return service;
  }

  get pid(): number {
    if (this.child.pid === undefined) throw new Error('the service did not start');
    return this.child.pid;
  }

  /** Sends SIGKILL to the process, and not to its children, as a crash would. */
  async kill(): Promise<void> {
    const closed = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const closed = once(this.child, 'exit');
    this.child.kill('SIGTERM');
    const killer = setTimeout(() => this.child.kill('SIGKILL'), 15_000);
    await closed;
    clearTimeout(killer);
  }
}

/** Waits for its first line, `listening on http://…`. Reads and drops all later lines. */
async function announcedAddress(child: ChildProcess): Promise<string> {
  if (!child.stdout) throw new Error('the service has no output');
  const lines = createInterface(child.stdout);
  const gone = once(child, 'exit').then(([code]) => {
    throw new Error(`the service ended at start with ${code}`);
  });
  gone.catch(() => undefined);
  const [line] = await Promise.race([once(lines, 'line'), gone]);
  const address = /^listening on (http:\/\/\S+?)\/?$/.exec(String(line))?.[1];
  if (address === undefined) {
    child.kill('SIGKILL');
    throw new Error(`the service began with: ${line}`);
  }
  return address;
}
