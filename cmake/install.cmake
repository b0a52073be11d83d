# headers, libraries, package files
