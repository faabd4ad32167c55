/** JSON is data from outside: its reader says what it is. */
declare module "*.json" {
  const value: unknown;
  export default value;
}
