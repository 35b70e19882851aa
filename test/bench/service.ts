/** The service as a contender. The bench uses its API as any client does. */
import { execFile } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { hasEnded, notSoon, part } from '../support/api-client.js';
import { DemoService } from '../support/demo-client.js';
import type { Contender, Running } from './contender.js';
import type { Phase } from './figures.js';
import { processorSeconds } from './processes.js';

const run = promisify(execFile);
const limitMs = 300_000;

/** The container that is backed up. */
interface Subject {
  readonly lxcPath: string;
  readonly name: string;
}

export interface ServiceWish {
  /** A built checkout, to measure another version. */
  readonly checkout?: string;
  /** Further arguments of the command line. */
  readonly flags?: readonly string[];
  /** Of the job. */
  readonly features?: readonly string[];
}

export class ServiceContender implements Contender, AsyncDisposable {
  readonly commands = [
    'POST /api/v1/backup {"type":"lxc","dest":{"target":"local",…},"features":["compress"],…}',
    'PUT /api/v1/backup/:id/run',
    'POST /api/v1/restore {"type":"lxc","container_id":"bench-restored-1",…}',
  ];
  readonly restoresLatest = true;
  /** Of the last backup. */
  pauseMs = 0;
  #job = 0;
  #round = 0;

  private constructor(
    readonly name: string,
    private readonly service: DemoService,
    private readonly subject: Subject,
    readonly destination: string,
    readonly version: string,
    private readonly features: readonly string[],
    private readonly signal: AbortSignal,
  ) {}

  get restored(): string {
    return join(this.subject.lxcPath, this.#clone(this.#round));
  }

  #clone(round: number): string {
    return `${this.subject.name}-restored-by-${this.name}-${round}`;
  }

  static async open(subject: Subject, work: string, signal: AbortSignal, o: ServiceWish = {}): Promise<ServiceContender> {
    const { checkout, flags, features = ['compress'] } = o;
    const { stdout } = await run('git', ['describe', '--always', '--dirty'], { cwd: checkout }).catch(() => ({ stdout: 'unknown commit' }));
    const commit = stdout.trim();
    const name = checkout === undefined ? 'container-backup' : commit;
    const share = join(work, `share-${name}`);
    await mkdir(share, { recursive: true });
    const service = await DemoService.start({
      stateFolder: join(work, `state-${name}`),
      shares: { bench: share },
      lxcPath: subject.lxcPath,
      ...(checkout !== undefined && { checkout }),
      ...(flags && { flags }),
    });
    return new ServiceContender(name, service, subject, share, `${commit}, Node.js ${process.version}`, features, signal);
  }

  /** Makes a new job with a new folder, so that each round begins with a full backup. */
  async begin(round: number): Promise<void> {
    await rm(join(this.destination, `round-${this.#round}`), { recursive: true, force: true });
    this.#round = round;
    this.#job = await this.service.create('backup', {
      job_name: `round-${round}`,
      container_id: this.subject.name,
      type: 'lxc',
      dest: { target: 'local', path: `/bench/round-${round}` },
      at: notSoon(),
      disable: true, // it runs only on request
      features: this.features,
    });
  }

  async prepare(_phase: Phase): Promise<void> {}

  async start(phase: Phase): Promise<Running> {
    const pid = this.service.child.pid;
    if (pid === undefined) throw new Error('the service did not start');
    const ended = phase === 'restore' ? this.#restore() : this.#backUp();
    ended.catch(() => undefined); // the measurement awaits it later
    return { pid, ended };
  }

  processor(): number {
    return processorSeconds(this.service.child.pid ?? 0);
  }

  async #backUp(): Promise<{ own: number }> {
    await this.service.call('PUT', `/backup/${this.#job}/run`);
    return this.#ended('backup', this.#job);
  }

  async #restore(): Promise<{ own: number }> {
    const src = { target: 'local', path: `/bench/round-${this.#round}`, portfolio: `round-${this.#round}` };
    const id = await this.service.create('restore', { job_name: 'restore', container_id: this.#clone(this.#round), type: 'lxc', src });
    return this.#ended('restore', id);
  }

  /** Polls the job. It notices the end at most 2 % too late, and polls too rarely to change the figures. */
  async #ended(kind: 'backup' | 'restore', id: number): Promise<{ own: number }> {
    const began = performance.now();
    for (let passed = 0; passed < limitMs; passed = performance.now() - began) {
      await sleep(Math.min(100, Math.max(10, passed / 50)), undefined, { signal: this.signal });
      if (!hasEnded(part(await this.service.call('GET', `/${kind}/${id}`), 'state'))) continue;
      const { duration, pause_ms } = await this.service.ended(kind, id);
      if (kind === 'backup') this.pauseMs = Number(pause_ms);
      return { own: Number(duration) / 1000 };
    }
    throw new Error(`${kind} ${id} did not end in ${limitMs / 1000} s`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.service[Symbol.asyncDispose]();
  }
}
