/** The two containers of the demo: busybox in LXC, and busybox in a Docker daemon of its own. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { part } from '../test/support/api-client.js';

const run = promisify(execFile);

/** Folders of a container as the host sees them. */
export interface Places {
  /** All of its root. */
  readonly root: string;
  /** Shared with its neighbour. */
  readonly volume: string;
  /** A folder of the host that its backups leave out. */
  readonly media: string;
  /** A folder of its root that nothing in it touches. */
  readonly data: string;
}

export interface Subject extends AsyncDisposable {
  readonly type: 'lxc' | 'docker';
  readonly name: string;
  readonly clone: string;
  /** Another container, stopped, that has the same volume. */
  readonly neighbour: string;
  /** How a job's `exclude` calls the media folder. */
  readonly mediaSource: string;
  /** Entries of its root that its own start writes. */
  readonly written: RegExp;
  /** Makes both containers and starts the first. */
  create(): Promise<void>;
  /** @throws when there is no such container */
  places(name: string): Promise<Places>;
}

export class LxcSubject implements Subject {
  readonly type = 'lxc';
  readonly name = 'demo-lxc';
  readonly clone = 'demo-lxc-clone';
  readonly neighbour = 'demo-lxc-neighbour';
  readonly mediaSource = 'srv-media';
  readonly written = /^(|var\/log\/messages|var\/run\/.*)$/; // '' is the root itself: lxc-start makes dev in it
  constructor(
    readonly path: string,
    private readonly volumes: string,
  ) {}

  async create(): Promise<void> {
    const config = join(this.path, 'demo.conf');
    const [volume, media] = [join(this.volumes, 'lxc-volume'), join(this.volumes, 'media')];
    await fs.mkdir(this.path, { recursive: true, mode: 0o755 });
    for (const folder of [volume, media]) await fs.mkdir(folder, { recursive: true });
    const entries = [`${volume} srv/volume`, `${media} srv/media`].map((entry) => `lxc.mount.entry = ${entry} none bind,create=dir 0 0`);
    await fs.writeFile(config, ['lxc.net.0.type = empty', ...entries, ''].join('\n'));
    for (const name of [this.name, this.neighbour]) await run('lxc-create', ['-P', this.path, '-n', name, '-f', config, '-t', 'busybox']);
    await fs.rm(config);
    await run('lxc-start', ['-P', this.path, '-n', this.name, '-d']);
  }

  async places(name: string): Promise<Places> {
    const config = await fs.readFile(join(this.path, name, 'config'), 'utf8');
    const rootfs = /^\s*lxc\.rootfs\.path\s*=\s*(?:dir:)?(\S+)/m.exec(config)?.[1];
    const [volume, media] = ['volume', 'media'].map(
      (place) => new RegExp(`^\\s*lxc\\.mount\\.entry\\s*=\\s*(\\S+)\\s+/?srv/${place}\\s`, 'm').exec(config)?.[1],
    );
    if (rootfs === undefined || volume === undefined || media === undefined)
      throw new Error(`${name}: its configuration names no root or volume`);
    return { root: rootfs, data: join(rootfs, 'data'), volume, media };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const name of [this.clone, this.neighbour, this.name]) {
      await run('lxc-unfreeze', ['-P', this.path, '-n', name]).catch(() => undefined);
      await run('lxc-destroy', ['-P', this.path, '-n', name, '-f']).catch(() => undefined);
    }
  }
}

export class DockerSubject implements Subject {
  readonly type = 'docker';
  readonly name = 'demo-docker';
  readonly clone = 'demo-docker-clone';
  readonly neighbour = 'demo-docker-neighbour';
  readonly written = /^(|\.dockerenv|(dev|proc|sys)(\/.*)?|etc|etc\/(hosts|hostname|resolv\.conf|mtab))$/; // the engine makes these mount points
  readonly socket: string;
  private daemon: ChildProcess | undefined;
  constructor(private readonly folder: string) {
    this.socket = join(folder, 'docker.sock');
  }

  private get media(): string {
    return join(this.folder, 'media');
  }

  get mediaSource(): string {
    return this.media.slice(1).replaceAll('/', '-');
  }

  async create(): Promise<void> {
    await this.startDaemon();
    const image = join(this.folder, 'image');
    await fs.mkdir(join(image, 'bin'), { recursive: true });
    await fs.cp('/bin/busybox', join(image, 'bin/busybox'), { dereference: true });
    await fs.writeFile(join(image, 'deleted'), 'a file of the image that the container has deleted');
    await run('tar', ['-C', image, '-cf', `${image}.tar`, '.']);
    await this.call('POST', '/images/create?fromSrc=-&repo=demo', ['-T', `${image}.tar`]);
    await fs.mkdir(this.media);
    const Mounts = [
      { Type: 'volume', Source: 'demo-volume', Target: '/srv/volume' },
      { Type: 'bind', Source: this.media, Target: '/srv/media' },
    ];
    const body = { Image: 'demo', Cmd: ['/bin/busybox', 'sleep', '100000'], HostConfig: { NetworkMode: 'none', Mounts } };
    const create = ['-H', 'Content-Type: application/json', '-d', JSON.stringify(body)];
    for (const name of [this.name, this.neighbour]) await this.call('POST', `/containers/create?name=${name}`, create);
    await this.call('POST', `/containers/${this.name}/start`);
    await fs.rm(join((await this.places(this.name)).root, 'deleted'));
  }

  private async startDaemon(): Promise<void> {
    const at = (name: string) => join(this.folder, name);
    await fs.mkdir(this.folder, { recursive: true });
    const args = ['--host', `unix://${this.socket}`, '--data-root', at('data'), '--exec-root', at('exec'), '--pidfile', at('pid')];
    const log = await fs.open(at('daemon.log'), 'w');
    this.daemon = spawn('dockerd', [...args, '--bridge=none', '--iptables=false'], { stdio: ['ignore', log.fd, log.fd] });
    this.daemon.on('error', () => undefined);
    await log.close();
    for (let i = 0; i < 150; i++) {
      if (await this.call('GET', '/_ping').catch(() => undefined)) return;
      await sleep(200);
    }
    throw new Error(`dockerd does not answer:\n${(await fs.readFile(at('daemon.log'), 'utf8')).slice(-2000)}`);
  }

  private async call(method: string, path: string, more: readonly string[] = []): Promise<string> {
    const args = ['-sS', '--fail-with-body', '-m', '120', '--unix-socket', this.socket, '-X', method, ...more, `http://docker${path}`];
    return (await run('curl', args, { maxBuffer: 1 << 26 })).stdout;
  }

  async places(name: string): Promise<Places> {
    const inspect: unknown = JSON.parse(await this.call('GET', `/containers/${name}/json`));
    const layers = part(part(inspect, 'GraphDriver'), 'Data');
    const root = part(layers, part(part(inspect, 'State'), 'Running') === true ? 'MergedDir' : 'UpperDir');
    const mounts = part(inspect, 'Mounts');
    const list: readonly unknown[] = Array.isArray(mounts) ? mounts : [];
    const [volume, media] = ['volume', 'media'].map((place) =>
      part(
        list.find((one) => part(one, 'Destination') === `/srv/${place}`),
        'Source',
      ),
    );
    if (typeof root !== 'string' || typeof volume !== 'string' || typeof media !== 'string')
      throw new Error(`${name}: inspect names no root or volume`);
    return { root, data: join(root, 'data'), volume, media };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.daemon || this.daemon.pid === undefined) return;
    for (const name of [this.clone, this.neighbour, this.name])
      await this.call('DELETE', `/containers/${name}?force=true&v=true`).catch(() => undefined);
    if (this.daemon.exitCode !== null) return;
    const closed = once(this.daemon, 'exit');
    this.daemon.kill('SIGTERM');
    await Promise.race([closed, sleep(20_000, undefined, { ref: false })]);
  }
}
