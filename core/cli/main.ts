#!/usr/bin/env -S node --single-threaded-gc --max-semi-space-size=1 --expose-gc
/** The command `container-backup`. The V8 flags: a run makes much garbage in few objects. Without single-threaded GC, collector
 *  threads take the cores of tar, zstd and the server on a small machine; over SSH a run is half as fast again without them. A
 *  small young generation is collected often, so buffers do not pile up in it: some 20 MiB less at the peak. Runs also start
 *  collections themselves (core/jobs/run/collect-buffers.ts). */
import { parseArgs } from 'node:util';
import type { Service } from '../appliance/listen.js';
import { configKeys, configOf, flagName, UsageError } from '../config.js';
import { startService } from '../index.js';
import { stateCommand, stateHelp } from './state.js';

/** After SIGTERM the service ends within 10 s. A run that does not stop is killed before that, and cleaned up at the next
 *  start. */
const endLimitMs = 9_500;

function help(): string {
  const lines = configKeys().map(({ key, description, fallback }) => {
    const flag = `--${flagName(key)}`.padEnd(18);
    return `  ${flag} ${description}${fallback === undefined ? '' : ` (${JSON.stringify(fallback)})`}`;
  });
  return [
    'usage: container-backup serve [flags]',
    '       container-backup state show|restore|repair|begin-anew [flags]   (state --help)',
    '',
    'Backs up, restores, clones and moves LXC and Docker containers; the REST API is below /api/v1.',
    '',
    `  ${'--config'.padEnd(18)} a JSON file with the keys below, written with _ instead of -`,
    ...lines,
    '',
    '--share NAME=DIR may be given more than once. Each flag is also a variable: --lxc-path is CONTAINER_BACKUP_LXC_PATH.',
    'While there is no user, a one-time code is printed and stored in <state>/setup-code for POST /api/v1/setup.',
  ].join('\n');
}

/** Values of the flags by key. @throws UsageError */
function flagsOf(args: readonly string[]): Record<string, string[]> {
  const names = ['config', ...configKeys().map(({ key }) => flagName(key))];
  const options = Object.fromEntries(names.map((name) => [name, { type: 'string', multiple: true } as const]));
  try {
    const { values } = parseArgs({ args: [...args], options, allowPositionals: false });
    const given = Object.entries(values).flatMap(([name, value]) =>
      Array.isArray(value) ? [[name.replaceAll('-', '_'), value.map(String)] as const] : [],
    );
    return Object.fromEntries(given);
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/** Ends the service on SIGTERM or SIGINT, also while it still starts. */
function endsBySignal(starting: Promise<Service>): void {
  const end = () => {
    setTimeout(() => process.exit(0), endLimitMs).unref();
    starting
      .then((service) => service.close())
      .then(
        () => process.exit(0),
        (error: unknown) => {
          console.error(error);
          process.exit(1);
        },
      );
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, end);
}

async function serve(args: readonly string[]): Promise<void> {
  const starting = startService(await configOf({ flags: flagsOf(args), environment: process.env }));
  endsBySignal(starting); // before anything reports that it listens
  const service = await starting;
  console.log(`listening on ${service.address}`);
  const code = await service.setupCode();
  if (code !== undefined)
    console.log(`setup code: ${code}\nPOST ${service.address}/api/v1/setup {"code", "username", "password"} makes the first admin`);
}

/** `container-backup state`: sorts --yes- words from flags of the service. */
async function state([verb, ...rest]: readonly string[]): Promise<void> {
  if (verb === undefined || rest.includes('--help') || verb === '--help') return console.log(stateHelp);
  const words = rest.filter((word) => word.startsWith('--yes-'));
  const flags = flagsOf(rest.filter((word) => !words.includes(word)));
  const config = await configOf({ flags, environment: process.env });
  process.exitCode = await stateCommand(config.state, verb, words, (line) => console.log(line));
}

async function main([verb, ...rest]: readonly string[]): Promise<void> {
  if (verb === 'state') await state(rest);
  else if (verb === undefined || verb === '--help' || verb === '-h' || verb === 'help' || rest.includes('--help')) console.log(help());
  else if (verb === 'serve') await serve(rest);
  else throw new UsageError(`there is no command ${verb}; container-backup --help lists them`);
}

main(process.argv.slice(2)).catch((error: unknown) => {
  const usage = error instanceof UsageError;
  console.error(usage ? error.message : error instanceof Error && error.message ? `container-backup: ${error.message}` : error);
  process.exit(usage ? 2 : 1);
});
