/** Not a test file by its name: declares nothing. */
export {};
