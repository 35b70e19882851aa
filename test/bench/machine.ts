/** Describes the machine of the figures. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { cpus, release, totalmem } from 'node:os';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface Machine {
  readonly processor: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly system: string;
  readonly kernel: string;
  readonly disk: string;
}

/** The type of the folder's file system, and the speed of one long write with fsync. */
async function diskOf(folder: string): Promise<string> {
  const { stdout: type } = await run('findmnt', ['-n', '-o', 'FSTYPE', '-T', folder]);
  const file = `${folder}/write-speed`;
  const began = performance.now();
  try {
    await run('dd', ['if=/dev/zero', `of=${file}`, 'bs=1M', 'count=512', 'conv=fsync']);
    const seconds = (performance.now() - began) / 1000;
    return `${type.trim()}, ${(536.9 / seconds).toFixed(0)} MB/s for 512 MiB written and synced`;
  } finally {
    await run('rm', ['-f', file]);
  }
}

export async function thisMachine(folder: string): Promise<Machine> {
  const about = await readFile('/etc/os-release', 'utf8');
  const version = (await readFile('/etc/debian_version', 'utf8').catch(() => '')).trim();
  return {
    processor: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryGiB: totalmem() / 2 ** 30,
    system: `${/^NAME="?([^"\n]*)/m.exec(about)?.[1] ?? 'unknown'} ${version}`,
    kernel: release(),
    disk: await diskOf(folder),
  };
}

/** The first line of a tool's --version. */
export async function versionOf(command: string, ...args: readonly string[]): Promise<string> {
  const { stdout } = await run(command, [...args]);
  return stdout.split('\n')[0]?.trim() ?? '';
}
