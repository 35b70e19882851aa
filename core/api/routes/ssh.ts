/** The appliance's own sshd: on or off, and for whom. */
import { parsed } from '../../schemas.js';
import type { ApiDeps, SshSwitch } from '../deps.js';
import { type Call, jsonBody, type Route, route } from '../request.js';

async function set(ssh: SshSwitch, call: Call): Promise<object> {
  const { enabled, authorized_keys } = parsed('ssh', await jsonBody(call));
  return ssh.set({ enabled, ...(authorized_keys !== undefined && { authorized_keys }) });
}

/** None when this service does not switch it. */
export function sshRoutes({ ssh }: ApiDeps): Route[] {
  if (ssh === undefined) return [];
  return [
    route('get', '/system/ssh', 'admin', 'Whether SSH is on, and for whom', () => ssh.get()),
    route('put', '/system/ssh', 'admin', 'Switch SSH, set its keys', (c) => set(ssh, c), 'ssh'),
  ];
}
