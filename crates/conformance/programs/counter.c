/* Reads numbers from the terminal, one a line, and answers with their sum. Built static against two C libraries. */
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
	char line[128];
	long sum = 0;
	while (fgets(line, sizeof line, stdin)) {
		sum += atol(line);
		printf("sum %ld\n", sum);
		fflush(stdout);
	}
	return 5;
}
