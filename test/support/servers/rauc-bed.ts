/** RAUC as on an appliance: the real program and its service, on a D-Bus bus of the suite's own. Its slots are files. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Test } from 'tap';

const run = promisify(execFile);

export interface Keys {
  readonly certificate: string;
  readonly key: string;
}
export interface BundleOptions {
  readonly version?: string;
  readonly compatible?: string;
  readonly keys?: Keys;
  readonly format?: 'verity' | 'plain';
  /** Of the root image, of random bytes. */
  readonly bytes?: number;
}

export class RaucBed {
  readonly #children: ChildProcess[] = [];
  #bundles = 0;
  private constructor(
    readonly folder: string,
    readonly keys: Keys,
  ) {}

  /** `version`: of the bundle that is said to have been installed to the booted slot. */
  static async start(t: Pick<Test, 'teardown'>, o: { readonly version?: string } = {}): Promise<RaucBed> {
    const folder = await mkdtemp(join(tmpdir(), 'rauc-'));
    const bed = new RaucBed(folder, await newKeys(folder, 'release'));
    t.teardown(() => bed.#stop());
    await bed.#configure(o.version);
    await bed.#startBus();
    await bed.#startService();
    return bed;
  }

  get config(): string {
    return this.#at('system.conf');
  }
  /** For whoever speaks to RAUC's service. */
  get environment(): { readonly DBUS_SYSTEM_BUS_ADDRESS: string } {
    return { DBUS_SYSTEM_BUS_ADDRESS: `unix:path=${this.#at('bus')}` };
  }

  newKeys(name: string): Promise<Keys> {
    return newKeys(this.folder, name);
  }

  /** What is on a slot's device. */
  slot(name: string): Promise<Buffer> {
    return readFile(this.#at(name));
  }

  async bundle(o: BundleOptions = {}): Promise<string> {
    const content = this.#at(`content-${++this.#bundles}`);
    const file = this.#at(`bundle-${this.#bundles}.raucb`);
    await mkdir(content);
    await writeFile(join(content, 'root.img'), randomBytes(o.bytes ?? 1 << 20));
    await writeFile(join(content, 'boot.img'), randomBytes(1 << 18));
    const images = ['[image.rootfs]', 'filename=root.img', '[image.boot]', 'filename=boot.img'];
    const update = ['[update]', `compatible=${o.compatible ?? 'board-x'}`, `version=${o.version ?? '1.3.0'}`];
    const lines = [...update, '[bundle]', `format=${o.format ?? 'verity'}`, ...images];
    await writeFile(join(content, 'manifest.raucm'), `${lines.join('\n')}\n`);
    const { certificate, key } = o.keys ?? this.keys;
    await run('rauc', ['bundle', `--cert=${certificate}`, `--key=${key}`, content, file]);
    await rm(content, { recursive: true });
    return file;
  }

  async #configure(version: string | undefined): Promise<void> {
    const slots: string[] = [];
    for (const [index, name] of ['a', 'b'].entries()) {
      for (const part of ['root', 'boot']) await writeFile(this.#at(`${part}-${name}`), Buffer.alloc(4 << 20));
      slots.push(`[slot.rootfs.${index}]`, `device=${this.#at(`root-${name}`)}`, 'type=raw', `bootname=${name.toUpperCase()}`);
      slots.push(`[slot.boot.${index}]`, `device=${this.#at(`boot-${name}`)}`, 'type=raw', `parent=rootfs.${index}`);
    }
    const system = ['[system]', 'compatible=board-x', 'bootloader=grub', `grubenv=${this.#at('grubenv')}`];
    const paths = [`statusfile=${this.#at('status')}`, `mountprefix=${this.#at('mount')}`, 'bundle-formats=plain verity'];
    const keyring = ['[keyring]', `path=${this.keys.certificate}`];
    await writeFile(this.config, `${[...system, ...paths, ...keyring, ...slots].join('\n')}\n`);
    const kept = ['[slot.rootfs.0]', 'bundle.compatible=board-x', `bundle.version=${version}`, 'status=ok'];
    const stamp = ['installed.timestamp=2026-01-31T09:30:00Z', 'installed.count=1'];
    if (version !== undefined) await writeFile(this.#at('status'), `${[...kept, ...stamp].join('\n')}\n`);
    await run('grub-editenv', [this.#at('grubenv'), 'create']);
    await run('grub-editenv', [this.#at('grubenv'), 'set', 'ORDER=A B', 'A_OK=1', 'B_OK=1', 'A_TRY=0', 'B_TRY=0']);
  }

  async #startBus(): Promise<void> {
    const rules =
      '<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow receive_sender="*"/><allow own="*"/></policy>';
    const config = `<busconfig><type>system</type><listen>unix:path=${this.#at('bus')}</listen><auth>EXTERNAL</auth>${rules}</busconfig>`;
    await writeFile(this.#at('bus.conf'), config);
    this.#start('dbus-daemon', ['--nofork', '--nopidfile', `--config-file=${this.#at('bus.conf')}`]);
    await until(async () => (await open(this.#at('bus'), 'r').catch((error: { code?: string }) => error.code)) === 'ENXIO', 'the bus');
  }

  async #startService(): Promise<void> {
    this.#start('rauc', [`--conf=${this.config}`, '--override-boot-slot=A', 'service']);
    const answers = () =>
      run('rauc', ['status'], { env: { ...process.env, ...this.environment } }).then(
        () => true,
        () => false,
      );
    await until(answers, "RAUC's service");
  }

  #start(command: string, args: readonly string[]): void {
    const env = { ...process.env, ...this.environment };
    this.#children.push(spawn('setpriv', ['--pdeathsig', 'KILL', '--', command, ...args], { stdio: 'ignore', env }));
  }

  #at(name: string): string {
    return join(this.folder, name);
  }

  async #stop(): Promise<void> {
    for (const child of this.#children.toReversed()) {
      const ended = new Promise((resolve) => child.once('close', resolve));
      if (child.exitCode === null && child.signalCode === null && child.kill()) await ended;
    }
    await rm(this.folder, { recursive: true, force: true });
  }
}

async function newKeys(folder: string, name: string): Promise<Keys> {
  const keys = { certificate: join(folder, `${name}.pem`), key: join(folder, `${name}.key`) };
  const kind = ['-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '30', '-subj', `/O=Test/CN=${name}`];
  await run('openssl', ['req', ...kind, '-keyout', keys.key, '-out', keys.certificate]);
  return keys;
}

async function until(there: () => Promise<boolean>, what: string): Promise<void> {
  for (let tries = 100; !(await there()); tries--) {
    if (tries === 0) throw new Error(`${what} does not start`);
    await sleep(50);
  }
}
