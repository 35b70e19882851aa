import type { Entry } from '../../../core/contract/index.js';
import { connectError, unavailable } from './failure.js';
import type { Login } from './login.js';

const listTime = 20_000;

/** Lists the server's file shares, without hidden ones. Also proves that the user can log in.
 *  @throws PluginError unavailable, denied, unsupported */
export async function shares(login: Login): Promise<Entry[]> {
  const peer = login.peer('IPC$');
  const child = login.start(['-g', '-L', login.service('').slice(2, -1)], { timeout: 10 });
  let said = '';
  let late = false;
  child.stdin?.on('error', () => undefined).end();
  for (const stream of [child.stdout, child.stderr]) stream?.setEncoding('utf8').on('data', (text: string) => (said += text));
  const timer = setTimeout(() => {
    late = true;
    child.kill('SIGKILL');
  }, listTime);
  await new Promise<void>((resolve) => {
    child.once('error', () => resolve());
    child.once('close', () => resolve());
  });
  clearTimeout(timer);
  if (late) throw unavailable(peer, 'no list of its shares came');
  // smbclient exits with 1 when there is no list of old workgroups; IPC$ is in every list
  if (!/^(Disk|IPC)\|/m.test(said)) throw connectError(said, peer);
  const names = [...said.matchAll(/^Disk\|([^|\n]*)\|/gm)].flatMap(([, name]) => (name === undefined || name.endsWith('$') ? [] : [name]));
  return names.map((name) => ({ name, folder: true, size: 0 }));
}
