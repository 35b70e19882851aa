/** The appliance's own sshd: on or off, and for whom. */
import { parse } from '../../schemas.js';
import type { ApiDeps, SshSwitch } from '../deps.js';
import { type ApiRequest, jsonBody, type Route, route } from '../request.js';

async function set(ssh: SshSwitch, request: ApiRequest): Promise<object> {
  const { enabled, authorized_keys } = parse('ssh', await jsonBody(request));
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
