/** Runs the program rauc and parses its answers. It asks RAUC's service over D-Bus for the slots and for an installation, and reads
 *  a bundle itself. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { anySignal } from '../contract/index.js';
import { aborted, ServiceError } from '../primitives/service-error.js';
import type { Verity } from './verity.js';

/** The signed manifest of a bundle. RAUC has checked its signature. */
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
  /** The boot loader starts it next. */
  readonly primary: boolean;
  /** The boot loader has not given it up. */
  readonly good: boolean;
  /** '' until the first update. */
  readonly version: string;
  readonly installed_at: string;
}
export interface SystemInfo {
  readonly compatible: string;
  readonly slot: string;
  readonly slots: readonly SlotInfo[];
}
export interface Rauc {
  /** @throws ServiceError busy (RAUC answers nothing while it installs), unavailable, aborted */
  status(signal: AbortSignal): Promise<SystemInfo>;
  /** @throws ServiceError untrusted_bundle, damaged_bundle, unavailable, aborted */
  info(bundle: string, signal: AbortSignal): Promise<{ readonly info: BundleInfo; readonly verity: Verity }>;
  /** Settles at the end of the installation. Aborting ends the program that watches it; RAUC's service goes on to the end.
   *  @throws ServiceError install_failed, unavailable, aborted */
  install(bundle: string, progress: (percent: number) => void, signal: AbortSignal): Promise<void>;
}

// Checking a signature takes 30 ms, and a second on a slow board.
const answerMs = 60_000;
const outputLimit = 1 << 20;

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

/** @throws ServiceError unavailable, aborted */
function runRauc(child: ChildProcess, line: (text: string) => void, signal: AbortSignal): Promise<Outcome> {
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]?.setEncoding('utf8').on('data', (chunk: string) => {
      if (texts[name].length < outputLimit) texts[name] += chunk;
    });
  }
  if (child.stdout) createInterface({ input: child.stdout }).on('line', line);
  const stop = () => child.kill('SIGKILL');
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  return new Promise<Outcome>((resolve, reject) => {
    child.once('error', (cause) =>
      reject(new ServiceError('unavailable', 'rauc could not be started; install it, or check its rights', { cause })),
    );
    child.once('close', (code) => {
      signal.removeEventListener('abort', stop);
      if (signal.aborted) reject(aborted());
      else if (code === null) reject(new ServiceError('unavailable', 'rauc was killed; try again'));
      else resolve({ code, ...texts });
    });
  });
}

/** The last line of its output, without prefixes: progress messages come before it. */
function lastLine(text: string): string {
  const lines = text.split('\n').map((one) => one.replace(/^\(rauc:\d+\): |^rauc-\w+ ?\*{0,2}: [\d:.]+: /g, '').trim());
  return lines.findLast((one) => one !== '') ?? 'it gave no reason';
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ServiceError('unavailable', 'rauc did not answer with JSON', { cause });
  }
}

function bundleError(stderr: string): ServiceError {
  const why = lastLine(stderr);
  if (/certificate (has expired|is not yet valid)/.test(stderr))
    return new ServiceError('untrusted_bundle', `the bundle's certificate is not valid at this time; check the clock (${why})`);
  if (/Verify error/.test(stderr))
    return new ServiceError('untrusted_bundle', `this appliance does not trust who signed the bundle (${why})`);
  if (/signature verification failed|Invalid bundle|Signature|bundle format|manifest/i.test(stderr))
    return new ServiceError('damaged_bundle', `this is no bundle, or a damaged one; get it again (${why})`);
  return new ServiceError('unavailable', `rauc could not read the bundle: ${why}`);
}

/** Reads the fields that the JSON output of RAUC 1.8 omits, from its output for people. */
function signedPart(text: string): { readonly signed_by: string; readonly verity: Verity } {
  const [, hash] = /^ +Verity Hash: +\t'([0-9a-f]{64})'$/m.exec(text) ?? [];
  const [, salt] = /^ +Verity Salt: +\t'([0-9a-f]{2,512})'$/m.exec(text) ?? [];
  const [, size] = /^ +Verity Size: +\t?(\d{1,12})$/m.exec(text) ?? [];
  const [, signer] = /^ 0 Subject: (.+)$/m.exec(text) ?? [];
  if (hash === undefined || salt === undefined || size === undefined)
    throw new ServiceError('damaged_bundle', 'the bundle is not in the verity format; make it with format=verity');
  return { signed_by: signer ?? '', verity: { hash, salt, size: Number(size) } };
}

function slotsOf(status: unknown): SlotInfo[] {
  const list = isValues(status) && Array.isArray(status.slots) ? status.slots : [];
  const all = list.flatMap((one: unknown) => (isValues(one) ? Object.entries(one) : []));
  // Only a slot that the boot loader knows has a bootname; others are parts of one.
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

/** @param config RAUC's configuration file. Default: /etc/rauc/system.conf */
export function openRauc(config?: string): Rauc {
  const answer = (args: readonly string[], signal: AbortSignal) =>
    runRauc(start(config, args), () => undefined, anySignal(signal, AbortSignal.timeout(answerMs)));
  return {
    async status(signal) {
      const { code, stdout, stderr } = await answer(['status', '--detailed', '--output-format=json'], signal);
      if (/already processing/.test(stderr)) throw new ServiceError('busy', 'RAUC is installing; ask again in a minute');
      if (code !== 0) throw new ServiceError('unavailable', `RAUC's service does not answer: ${lastLine(stderr)}`);
      const status = jsonOf(stdout);
      return { compatible: textAt(status, 'compatible'), slot: textAt(status, 'booted'), slots: slotsOf(status) };
    },
    async info(bundle, signal) {
      const json = await answer(['info', '--output-format=json', bundle], signal);
      if (json.code !== 0) throw bundleError(json.stderr);
      const plain = await answer(['info', bundle], signal);
      if (plain.code !== 0) throw bundleError(plain.stderr);
      const { signed_by, verity } = signedPart(plain.stdout);
      const manifest = jsonOf(json.stdout);
      const [version, compatible, description, build] = ['version', 'compatible', 'description', 'build'].map((key) =>
        textAt(manifest, key),
      );
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
      const { code, stdout, stderr } = await runRauc(start(config, ['install', bundle]), line, signal);
      if (code === 0) return;
      const [, why] = /^LastError: (.+)$/m.exec(stdout) ?? [];
      throw new ServiceError('install_failed', `the update was not installed: ${why ?? lastLine(stderr)}`);
    },
  };
}
