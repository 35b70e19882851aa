/** The program rauc: its arguments, its answers, its words. The slots' state and an install come from its service over D-Bus;
 *  a bundle is read by the program itself. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { anySignal } from '../contract/index.js';
import { aborted, UpdateError } from './errors.js';
import type { Verity } from './verity.js';

/** What a bundle says of itself, its signature checked. */
export interface BundleInfo {
  readonly version: string;
  readonly compatible: string;
  readonly description: string;
  readonly build: string;
  /** Subject of the certificate that signed it. */
  readonly signed_by: string;
}
export interface SlotInfo {
  readonly name: string;
  readonly booted: boolean;
  /** What the boot loader would take next. */
  readonly primary: boolean;
  /** The boot loader still counts on it. */
  readonly good: boolean;
  /** '' until something was installed by an update. */
  readonly version: string;
  readonly installed_at: string;
}
export interface SystemInfo {
  readonly compatible: string;
  readonly slot: string;
  readonly slots: readonly SlotInfo[];
}
export interface Rauc {
  /** @throws UpdateError busy (RAUC tells nothing while it works), unavailable, aborted */
  status(signal: AbortSignal): Promise<SystemInfo>;
  /** @throws UpdateError untrusted_bundle, damaged_bundle, unavailable, aborted */
  info(bundle: string, signal: AbortSignal): Promise<{ readonly info: BundleInfo; readonly verity: Verity }>;
  /** Runs to the end of the install. Aborting ends the program that watches; RAUC's service is not stopped half-way.
   *  @throws UpdateError install_failed, unavailable, aborted */
  install(bundle: string, progress: (percent: number) => void, signal: AbortSignal): Promise<void>;
}

// Reading a signature takes 30 ms, and a second on a slow board.
const answerMs = 60_000;
const mostOutput = 1 << 20;

type Values = Readonly<Record<string, unknown>>;
const isValues = (value: unknown): value is Values => typeof value === 'object' && value !== null && !Array.isArray(value);
const textAt = (value: unknown, key: string): string => {
  const found = isValues(value) ? value[key] : undefined;
  return typeof found === 'string' ? found : '';
};

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function start(config: string | undefined, args: readonly string[]): ChildProcess {
  const { PATH = '', DBUS_SYSTEM_BUS_ADDRESS: bus } = process.env;
  const env = { PATH, LC_ALL: 'C', TZ: 'UTC', ...(bus !== undefined && { DBUS_SYSTEM_BUS_ADDRESS: bus }) };
  return spawn('rauc', [...(config === undefined ? [] : [`--conf=${config}`]), ...args], { stdio: ['ignore', 'pipe', 'pipe'], env });
}

/** @throws UpdateError unavailable, aborted */
function ended(child: ChildProcess, line: (text: string) => void, signal: AbortSignal): Promise<Outcome> {
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]?.setEncoding('utf8').on('data', (chunk: string) => {
      if (texts[name].length < mostOutput) texts[name] += chunk;
    });
  }
  if (child.stdout) createInterface({ input: child.stdout }).on('line', line);
  const stop = () => child.kill('SIGKILL');
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  return new Promise<Outcome>((resolve, reject) => {
    child.once('error', (cause) => reject(new UpdateError('unavailable', 'rauc could not be started; is it installed?', { cause })));
    child.once('close', (code) => {
      signal.removeEventListener('abort', stop);
      if (signal.aborted) reject(aborted());
      else if (code === null) reject(new UpdateError('unavailable', 'rauc was killed; try again'));
      else resolve({ code, ...texts });
    });
  });
}

/** Its last word: what is before it are messages of its progress. */
function lastLine(text: string): string {
  const lines = text.split('\n').map((one) => one.replace(/^\(rauc:\d+\): |^rauc-\w+ ?\*{0,2}: [\d:.]+: /g, '').trim());
  return lines.findLast((one) => one !== '') ?? 'no reason was told';
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UpdateError('unavailable', 'rauc answered with something that is no JSON', { cause });
  }
}

function refused(stderr: string): UpdateError {
  const why = lastLine(stderr);
  if (/certificate (has expired|is not yet valid)/.test(stderr))
    return new UpdateError('untrusted_bundle', `the bundle's certificate does not hold at this time; check the clock (${why})`);
  if (/Verify error/.test(stderr))
    return new UpdateError('untrusted_bundle', `the bundle is signed by nobody that this appliance trusts (${why})`);
  if (/signature verification failed|Invalid bundle|Signature|bundle format|manifest/i.test(stderr))
    return new UpdateError('damaged_bundle', `the bundle is damaged, or no bundle: get it again (${why})`);
  return new UpdateError('unavailable', `rauc could not read the bundle: ${why}`);
}

/** From the form for people: what JSON leaves out in RAUC 1.8. */
function signedPart(text: string): { readonly signed_by: string; readonly verity: Verity } {
  const [, hash] = /^ +Verity Hash: +\t'([0-9a-f]{64})'$/m.exec(text) ?? [];
  const [, salt] = /^ +Verity Salt: +\t'([0-9a-f]{2,512})'$/m.exec(text) ?? [];
  const [, size] = /^ +Verity Size: +\t?(\d{1,12})$/m.exec(text) ?? [];
  const [, signer] = /^ 0 Subject: (.+)$/m.exec(text) ?? [];
  if (hash === undefined || salt === undefined || size === undefined)
    throw new UpdateError('damaged_bundle', 'the bundle is not in the verity format; make it with format=verity');
  return { signed_by: signer ?? '', verity: { hash, salt, size: Number(size) } };
}

function slotsOf(status: unknown): SlotInfo[] {
  const list = isValues(status) && Array.isArray(status.slots) ? status.slots : [];
  const all = list.flatMap((one: unknown) => (isValues(one) ? Object.entries(one) : []));
  // Only a slot that the boot loader knows has a name; those below it are parts of it.
  const bootable = all.filter(([, slot]) => textAt(slot, 'bootname') !== '');
  const slots = bootable.map(([id, slot]): SlotInfo => {
    const kept = isValues(slot) ? slot.slot_status : undefined;
    const [bundle, installed] = isValues(kept) ? [kept.bundle, kept.installed] : [];
    return {
      name: textAt(slot, 'bootname'),
      booted: textAt(slot, 'state') === 'booted',
      primary: textAt(status, 'boot_primary') === id,
      good: textAt(slot, 'boot_status') === 'good',
      version: textAt(bundle, 'version'),
      installed_at: textAt(installed, 'timestamp'),
    };
  });
  return slots.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** `config`: another file than /etc/rauc/system.conf. */
export function openRauc(config?: string): Rauc {
  const answer = (args: readonly string[], signal: AbortSignal) =>
    ended(start(config, args), () => undefined, anySignal(signal, AbortSignal.timeout(answerMs)));
  return {
    async status(signal) {
      const { code, stdout, stderr } = await answer(['status', '--detailed', '--output-format=json'], signal);
      if (/already processing/.test(stderr)) throw new UpdateError('busy', 'RAUC is at work; try again in a while');
      if (code !== 0) throw new UpdateError('unavailable', `the service of rauc does not answer: ${lastLine(stderr)}`);
      const status = jsonOf(stdout);
      return { compatible: textAt(status, 'compatible'), slot: textAt(status, 'booted'), slots: slotsOf(status) };
    },
    async info(bundle, signal) {
      const json = await answer(['info', '--output-format=json', bundle], signal);
      if (json.code !== 0) throw refused(json.stderr);
      const plain = await answer(['info', bundle], signal);
      if (plain.code !== 0) throw refused(plain.stderr);
      const { signed_by, verity } = signedPart(plain.stdout);
      const told = jsonOf(json.stdout);
      const [version, compatible, description, build] = ['version', 'compatible', 'description', 'build'].map((key) => textAt(told, key));
      return {
        verity,
        info: { signed_by, version: version ?? '', compatible: compatible ?? '', description: description ?? '', build: build ?? '' },
      };
    },
    async install(bundle, progress, signal) {
      const line = (text: string) => {
        const [, percent] = /^\s*(\d{1,3})% /.exec(text) ?? [];
        if (percent !== undefined) progress(Math.min(100, Number(percent)));
      };
      const { code, stdout, stderr } = await ended(start(config, ['install', bundle]), line, signal);
      if (code === 0) return;
      const [, why] = /^LastError: (.+)$/m.exec(stdout) ?? [];
      throw new UpdateError('install_failed', `the update was not installed: ${why ?? lastLine(stderr)}`);
    },
  };
}
