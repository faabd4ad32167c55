export function verifySqliteLedger(_path: string): { differences: string[] } {
  return { differences: [] };
}
