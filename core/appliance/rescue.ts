/** The service while its state is damaged: it listens, answers with the reason, runs no job, and starts once the state is
 *  mended. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { createRescueApi } from '../api/rescue.js';
import type { PluginLog } from '../contract/index.js';
import type { StateDamaged } from '../store/index.js';
import { listen, type Service, type Tls } from './listen.js';

const lookEvery = 1_000;

export interface RescueDeps {
  readonly at: string;
  readonly tls?: Tls;
  readonly log: PluginLog;
  /** Starts the service at an address. @throws StateDamaged: the state is still damaged */
  start(at: string): Promise<Service>;
}

/** Inode and mtime of format.json, which each command that mends the state writes last. */
async function formatOf(folder: string): Promise<string> {
  return stat(join(folder, 'format.json')).then(
    ({ ino, mtimeMs }) => `${ino}/${mtimeMs}`,
    () => '',
  );
}

/** @throws Error when the address is taken */
export async function startRescue(damage: StateDamaged, deps: RescueDeps): Promise<Service> {
  const { at, tls, log } = deps;
  log('error', damage.message);
  const before = await formatOf(damage.folder);
  const reason = `the state is damaged: ${damage.report.reason}; container-backup state show lists what is left and what you can do`;
  const listener = await listen({ at, api: createRescueApi(reason), ...(tls && { tls }), log });
  let seen = before;
  let mended: Service | undefined;
  let looking = Promise.resolve();
  const look = async () => {
    const now = await formatOf(damage.folder);
    const isSettled = now === seen; // else the command may still have the state open
    seen = now;
    if (mended || now === before || !isSettled) return;
    log('info', 'the state was mended; the service starts');
    await listener.close();
    mended = await deps.start(listener.address.replace(/^https?:\/\//, ''));
    clearInterval(timer);
  };
  const timer = setInterval(() => {
    looking = looking.then(look).catch((error: unknown) => log('error', `the service cannot start yet: ${error}`));
  }, lookEvery);
  return {
    address: listener.address,
    setupCode: async () => mended?.setupCode(),
    close: async () => {
      clearInterval(timer);
      await looking;
      await (mended ?? listener).close();
    },
  };
}
